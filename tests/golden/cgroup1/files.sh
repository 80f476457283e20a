# Listings, contents and writes of cgroup v1's files.
umount /sys/fs/cgroup; mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup; cd /sys/fs/cgroup
for c in memory hugetlb pids; do mkdir $c; mount -t cgroup -o $c cgroup $c; done
echo "## proc"; cat /proc/cgroups; cat /proc/self/cgroup; grep "^cgroup" /proc/mounts
for c in memory hugetlb pids; do
  mkdir $c/t
  for d in $c $c/t; do
    echo "## ls $d"; for f in $(ls $d); do [ -f $d/$f ] && stat -c '%a %s %n' $d/$f; done; stat -c '%a %s %n' $d
    echo "## cat $d"; for f in $(ls $d); do [ -f $d/$f ] && case $f in tasks|cgroup.procs) ;; *) echo "--- $f"; cat $d/$f 2>&1;; esac; done
  done
done
echo "## write"
{ t=memory/t
for f in limit_in_bytes memsw.limit_in_bytes kmem.limit_in_bytes kmem.tcp.limit_in_bytes soft_limit_in_bytes; do
  for v in 100M -1 max 0x100000 1g 12345 '' ' 64M ' 64Mx -5 99999999999999999999 0 1e; do
    printf '%s\t%s\tR\n' $t/memory.$f "$v"; done
  printf '%s\t%s\tR\n' memory/memory.$f 100M
done
for f in max_usage_in_bytes failcnt memsw.max_usage_in_bytes memsw.failcnt kmem.max_usage_in_bytes kmem.failcnt kmem.tcp.max_usage_in_bytes kmem.tcp.failcnt; do
  for v in 0 17 abc ''; do printf '%s\t%s\tR\n' $t/memory.$f "$v"; done
done
for f in swappiness move_charge_at_immigrate oom_control use_hierarchy; do
  for v in 0 1 2 3 4 100 200 201 -1 abc '' ' 1 ' 0x1; do printf '%s\t%s\tR\n' $t/memory.$f "$v"; done
done
for f in swappiness move_charge_at_immigrate oom_control use_hierarchy; do
  for v in 0 1 70; do printf '%s\t%s\tR\n' memory/memory.$f "$v"; done
done
for f in usage_in_bytes stat numa_stat kmem.slabinfo memsw.usage_in_bytes; do printf '%s\t0\tR\n' $t/memory.$f; done
printf '%s\t0\tR\n' $t/memory.force_empty; printf '%s\tx\tR\n' $t/memory.force_empty; printf '%s\t0\tR\n' memory/memory.force_empty
for v in '' 1 abc '1 2' '99 98' '99 98 5' '1 x' 'x 1' '0 1 ' '1 1'; do printf '%s\t%s\tR\n' $t/cgroup.event_control "$v"; done
for f in cgroup.clone_children notify_on_release; do for v in 0 1 2 -1 abc ''; do printf '%s\t%s\tR\n' $t/$f "$v"; done; done
for v in /bin/true ' /x y ' ''; do printf '%s\t%s\tR\n' memory/release_agent "$v"; done
printf '%s\t0\tR\n' memory/cgroup.sane_behavior
for f in cgroup.procs tasks; do for v in -1 abc 99999999 2 ''; do printf '%s\t%s\t-\n' $t/$f "$v"; done; done
for v in 100M 3M -1 max abc '' 0; do printf '%s\t%s\tR\n' hugetlb/t/hugetlb.2MB.limit_in_bytes "$v"; done
printf '%s\t100M\tR\n' hugetlb/hugetlb.2MB.limit_in_bytes
for f in failcnt max_usage_in_bytes; do for v in 0 abc; do printf '%s\t%s\tR\n' hugetlb/t/hugetlb.2MB.$f "$v"; done; done
for v in 5 max 0 -1 abc; do printf '%s\t%s\tR\n' pids/t/pids.max "$v"; done
} | probe wr
echo "## order"; t=memory/t
echo 64M > $t/memory.memsw.limit_in_bytes; echo "memsw first: $?"
echo 64M > $t/memory.limit_in_bytes; echo "memory: $?"; echo 64M > $t/memory.memsw.limit_in_bytes; echo "memsw: $?"
echo 80M > $t/memory.limit_in_bytes; echo "memory above memsw: $?"; echo 32M > $t/memory.memsw.limit_in_bytes; echo "memsw below memory: $?"
cat $t/memory.limit_in_bytes $t/memory.memsw.limit_in_bytes; grep hierarchical_m $t/memory.stat
mkdir $t/u; echo 70 > $t/memory.swappiness; echo 1 > $t/memory.oom_control; mkdir $t/v
cat $t/u/memory.swappiness $t/v/memory.swappiness $t/u/memory.oom_control $t/v/memory.oom_control
echo 1 > $t/notify_on_release; echo 1 > $t/cgroup.clone_children; mkdir $t/w; cat $t/w/notify_on_release $t/w/cgroup.clone_children
rmdir $t; echo "rmdir with children: $?"; rmdir $t/u $t/v $t/w
sleep 100 & echo $! > $t/cgroup.procs; rmdir $t; echo "rmdir with a process: $?"; cat /proc/$!/cgroup; kill -9 $!; wait
rmdir $t; echo "rmdir: $?"
echo "## log"; dmesg | sed 's/^\[[^]]*\] //' | grep -E "deprecat"
