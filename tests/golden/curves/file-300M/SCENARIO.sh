swapup /dev/vdb; bigfile /data/big 600; echo 3 > /proc/sys/vm/drop_caches
run() { probe file /data/big 600 60 1 > /dev/shm/c.tsv; put file_$1.tsv /dev/shm/c.tsv; echo 3 > /proc/sys/vm/drop_caches; }
run hot
probe hold 100 400 x /dev/shm/h & H=$!; while [ ! -e /dev/shm/h ]; do sleep 0.3; done; run hot_anon; kill $H; sleep 0.3
echo n > /sys/kernel/mm/lru_gen/enabled; run hot_classic
