swapup /dev/vdb; bigfile /data/f 90; bigfile /data/g 180
for k in 10 100 200 classic; do
 [ $k = classic ] && { echo n > /sys/kernel/mm/lru_gen/enabled; s=60; } || s=$k
 swapoff /dev/vdb; probe swapon /dev/vdb; echo 3 > /proc/sys/vm/drop_caches; echo $s > /proc/sys/vm/swappiness; rm -f /dev/shm/h* /dev/shm/c.tsv
 probe hold 100 400 rand /dev/shm/h & H=$!; while [ ! -e /dev/shm/h ]; do sleep 0.2; done
 probe readfile /data/f 90; probe readfile /data/f 90
 probe sample before > /dev/shm/t1
 probe hold 70 400 rand /dev/shm/h2 & H2=$!; i=0; while [ ! -e /dev/shm/h2 ] && [ $i -lt 100 ]; do sleep 0.2; i=$((i+1)); done
 probe sample after_anon > /dev/shm/t2; probe readfile /data/g 180; probe sample after_file > /dev/shm/t3
 head -1 /dev/shm/t1 > /dev/shm/c.tsv; for t in t1 t2 t3; do tail -1 /dev/shm/$t >> /dev/shm/c.tsv; done
 put mix_swappiness$k.tsv /dev/shm/c.tsv; kill $H $H2; sleep 0.3
done
