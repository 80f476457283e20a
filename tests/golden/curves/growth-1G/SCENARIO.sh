swapup /dev/vdb
grow() { probe anon 16 2400 x 120 > /dev/shm/c.tsv; put anon_growth_$1.tsv /dev/shm/c.tsv; rm /dev/shm/c.tsv; swapoff /dev/vdb; }
for s in 60 100; do probe swapon /dev/vdb; echo $s > /proc/sys/vm/swappiness; bigfile /data/f 200; probe readfile /data/f 200; probe readfile /data/f 200; grow swappiness$s; done
echo 60 > /proc/sys/vm/swappiness; echo 3 > /proc/sys/vm/drop_caches; bigfile /data/f 200; probe readfile /data/f 200; grow noswap
echo n > /sys/kernel/mm/lru_gen/enabled; probe swapon /dev/vdb; probe readfile /data/f 200; grow classic
