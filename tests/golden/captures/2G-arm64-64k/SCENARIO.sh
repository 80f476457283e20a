hostname golden
CG=/sys/fs/cgroup
kt() { for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = "$1" ] && basename $p; done | head -1; }
snap 00-boot 1 2 $(kt kswapd0)
dmesg > /dev/shm/d; put dmesg-boot.txt /dev/shm/d
swapup /dev/vdb
bigfile /data/f 120; probe readfile /data/f 120
echo 8 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
probe zoo /dev/shm/zoo.ready /data s & sleep 1
i=0; while ! grep -q READY /dev/shm/zoo.ready && [ $i -lt 60 ]; do sleep 0.5; i=$((i+1)); done
Z=$(sed -n 's/^pid \([0-9]*\) kid.*/\1/p' /dev/shm/zoo.ready); K=$(sed -n 's/^pid .* kid \(.*\)/\1/p' /dev/shm/zoo.ready)
echo 1 > /sys/kernel/mm/ksm/run; echo 2000 > /sys/kernel/mm/ksm/pages_to_scan; sleep 4
snap 02-zoo 1 $Z $K
echo "zoo=$Z zoo-child=$K init=1 kthreadd=2 kswapd0=$(kt kswapd0) khugepaged=$(kt khugepaged) ksmd=$(kt ksmd)" > /dev/shm/pids; put 02-zoo/PIDS /dev/shm/pids; put 02-zoo/zoo.log /dev/shm/zoo.ready
kill $K $Z; sleep 1; rm -f /dev/shm/zoo.shm; echo 2 > /sys/kernel/mm/ksm/run; echo 0 > /sys/kernel/mm/ksm/run; echo 0 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
echo "+memory +cpu +io +pids +cpuset +hugetlb" > $CG/cgroup.subtree_control
mkdir $CG/g $CG/g/web; echo "+memory" > $CG/g/cgroup.subtree_control
echo 64M > $CG/g/web/memory.max; echo 0 > $CG/g/web/memory.swap.max; echo 32M > $CG/g/web/memory.low
sh -c "echo 0 > $CG/g/web/cgroup.procs; exec probe hold 40 60" & W=$!; sleep 2
snap 06-cgroup-running $W
kill $W; sleep 1
dmesg -c > /dev/null
sh -c "echo 0 > $CG/g/web/cgroup.procs; exec probe hold 100 60"
dmesg -c > /dev/shm/d; put 07-cgroup-oom.dmesg /dev/shm/d
