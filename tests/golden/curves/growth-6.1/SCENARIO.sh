hostname golden
probe anon 16 800 x 100 > /dev/shm/c.tsv; put noswap.tsv /dev/shm/c.tsv
swapup
probe anon 16 800 x 100 > /dev/shm/c.tsv; put swap.tsv /dev/shm/c.tsv
