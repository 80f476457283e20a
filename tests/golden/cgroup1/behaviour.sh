# What the values of cgroup v1's memory controller do. Numbers are KB.
umount /sys/fs/cgroup; mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup; mkdir /sys/fs/cgroup/memory
mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory; cd /sys/fs/cgroup/memory
echo 0 > /sys/kernel/mm/lru_gen/enabled; echo never > /sys/kernel/mm/transparent_hugepage/enabled
kb() { echo $(($(cat $1) / 1024)); }
row() { # LABEL GROUP
  echo "$1 usage=$(kb $2/memory.usage_in_bytes) memsw=$(kb $2/memory.memsw.usage_in_bytes) max=$(kb $2/memory.max_usage_in_bytes) memsw_max=$(kb $2/memory.memsw.max_usage_in_bytes) failcnt=$(cat $2/memory.failcnt) memsw_failcnt=$(cat $2/memory.memsw.failcnt) $(awk '/^(cache|rss|swap|pgpgin|pgpgout) /{printf "%s=%d ",$1,($1~/^pg/)?$2:$2/1024}' $2/memory.stat)$(awk '{printf "%s=%s ",$1,$2}' $2/memory.oom_control)"
}
hold() { # GROUP MB: a process that has so much
  rm -f /tmp/ready; sh -c "echo \$\$ > $1/cgroup.procs; exec probe hold $2 600 rand /tmp/ready" > /dev/null & P=$!
  i=0; while [ ! -e /tmp/ready ] && [ -d /proc/$P ] && [ $i -lt ${3:-60} ]; do sleep 0.2; i=$((i+1)); done; sleep 0.5
}
end() { kill -9 $P 2>/dev/null; wait $P 2>/dev/null; echo "status $?"; }
wr() { echo $2 > $1 2>/dev/null; echo "$1 <- $2: $?"; }
swapup
mkdir a; echo "# anonymous memory above the limit"; wr a/memory.limit_in_bytes 20M; hold a 40; row full a
wr a/memory.failcnt 0; wr a/memory.max_usage_in_bytes 0; row reset a; end; row gone a; rmdir a
mkdir a; echo "# a limit below what is used"; hold a 40; row full a; wr a/memory.limit_in_bytes 20M; row lowered a; end; rmdir a
mkdir a; echo "# memory and swap together"; wr a/memory.limit_in_bytes 20M; wr a/memory.memsw.limit_in_bytes 30M; hold a 40 20; row full a; end; row gone a; rmdir a
mkdir a; echo "# memory and swap in use, then a limit on both"; wr a/memory.limit_in_bytes 20M; hold a 40; wr a/memory.memsw.limit_in_bytes 30M; row refused a; end; rmdir a
mkdir a; echo "# force_empty"; dd if=/dev/zero of=/data/f bs=1M count=30 2>/dev/null; sync; echo 3 > /proc/sys/vm/drop_caches
sh -c "echo \$\$ > a/cgroup.procs; cat /data/f > /dev/null"; row cached a; wr a/memory.force_empty 0; row emptied a; rmdir a; echo "rmdir $?"
mkdir a; hold a 20; wr a/memory.force_empty 0; row "swapped" a; end; rmdir a
echo "# swappiness 0"; mkdir a; wr a/memory.swappiness 0; wr a/memory.limit_in_bytes 20M; hold a 40 20; row full a; end; rmdir a
swapoff /dev/vdb
mkdir a; echo "# a limit that cannot be reached"; hold a 40; wr a/memory.limit_in_bytes 20M; row refused a; end; rmdir a
mkdir a; echo "# a process that waits at the limit"; wr a/memory.limit_in_bytes 20M; wr a/memory.oom_control 1; hold a 40 20; row waits a; grep State /proc/$P/status; cat /proc/$P/wchan; echo
wr a/memory.limit_in_bytes 30M; sleep 2; row "more room" a; wr a/memory.limit_in_bytes 60M; sleep 2; row "enough room" a; grep State /proc/$P/status; end; rmdir a
mkdir a; echo "# it is killed after all"; wr a/memory.limit_in_bytes 20M; wr a/memory.oom_control 1; hold a 40 20; row waits a; wr a/memory.oom_control 0; sleep 2; row killed a; end; rmdir a
mkdir a; echo "# it can be killed"; wr a/memory.limit_in_bytes 20M; wr a/memory.oom_control 1; hold a 40 20; row waits a; end; row gone a; rmdir a
mkdir a a/b; echo "# a limit above"; wr a/memory.limit_in_bytes 20M; hold a/b 40 20; row above a; row below a/b; end; rmdir a/b a
mkdir a b; echo "# what moves with a process"; hold a 20; echo $P > b/cgroup.procs; row "a stays" a; row "b stays" b
wr a/memory.move_charge_at_immigrate 1; echo $P > a/cgroup.procs; row "a same" a; echo $P > b/cgroup.procs; row "a again" a
wr b/memory.move_charge_at_immigrate 1; echo $P > a/cgroup.procs; echo $P > b/cgroup.procs; row "a moved" a; row "b moved" b
mkdir c; wr c/memory.move_charge_at_immigrate 1; wr c/memory.limit_in_bytes 10M; echo $P > c/cgroup.procs 2>/dev/null; echo "too small: $?"; row "b" b; row "c" c; end; rmdir a b c
dmesg | grep -E "Killed process|memory\+swap: usage|memory: usage|kmem: usage" | sed 's/^\[[^]]*\] //'
