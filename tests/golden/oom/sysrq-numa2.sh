klog() { timeout 3 cat /dev/kmsg; }
dmesg -c > /dev/null
echo m > /proc/sysrq-trigger; echo "rc=$?"
echo x > /proc/sysrq-trigger; echo "rc=$?"
printf '_h5m' > /proc/sysrq-trigger; echo "rc=$?"
cat /proc/sys/kernel/printk
printf 'mh' > /proc/sysrq-trigger
echo 0 > /proc/sys/kernel/sysrq
echo 4 > /proc/sysrq-trigger
cat /proc/sys/kernel/printk
probe hold 40 100 hot /tmp/ready & sleep 3
echo f > /proc/sysrq-trigger; sleep 2
sleep 1000 & sleep 1001 &
sleep 1
echo e > /proc/sysrq-trigger; sleep 1
ps | grep -v '\[' 
sleep 1000 &
echo i > /proc/sysrq-trigger; sleep 1
ps | grep -v '\[' 
cat /proc/sys/kernel/printk
echo f > /proc/sysrq-trigger; sleep 1
ls -l /proc/sysrq-trigger
cat /proc/sysrq-trigger; echo rc=$?
mkdir /sys/fs/cgroup/c; echo +cpuset > /sys/fs/cgroup/cgroup.subtree_control; echo 1 > /sys/fs/cgroup/c/cpuset.mems
probe anon 16 800 /sys/fs/cgroup/c 60 > /dev/null
echo 1 > /proc/sys/vm/oom_kill_allocating_task
probe anon 16 800 /sys/fs/cgroup/c 60 > /dev/null
echo 0 > /proc/sys/vm/oom_dump_tasks
probe anon 16 800 x 60 > /dev/null
echo 5 > /proc/sysrq-trigger
(timeout 4 cat /dev/kmsg) > /dev/shm/k; put kmsg.txt /dev/shm/k
