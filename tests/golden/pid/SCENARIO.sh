# What one boot (512M, 2 CPUs) was asked about /proc/PID; output.txt is what it answered, from "la 1" on.
echo "== lsf"; ls -f /proc/self 2>/dev/null; ls -U /proc/1; echo "== task"; ls -U /proc/1/task/1
echo "== la 1"; ls -la /proc/1/ ; echo "== la task"; ls -la /proc/1/task /proc/1/task/1 
echo "== stat"; stat -c '%n %A %h %s' /proc/1 /proc/1/task /proc/1/fd /proc/1/fdinfo /proc/1/ns /proc/1/net /proc/1/attr /proc/1/map_files /proc/1/task/1 /proc/1/task/1/fd
echo "== fd"; ls -la /proc/self/fd /proc/1/fd; for f in /proc/1/fdinfo/*; do echo $f; cat $f; done
echo "== ns"; ls -la /proc/1/ns
echo "== attr"; ls -laR /proc/1/attr; for f in /proc/1/attr/*; do echo $f; cat $f; done
echo "== timers"; cat /proc/1/timers; echo "rc $?"
echo "== map_files"; ls -la /proc/1/map_files
echo "== kthread"; readlink /proc/2/exe; echo rc $?; cat /proc/2/mem; cat /proc/2/map_files; ls -la /proc/2/map_files /proc/2/fd /proc/2/fdinfo; readlink /proc/2/cwd /proc/2/root; 
(exec 9</proc/2/coredump_filter; cat <&9); echo 1 > /proc/2/coredump_filter; echo 1 > /proc/2/clear_refs; echo 5 > /proc/2/oom_score_adj; cat /proc/2/oom_score_adj
echo "== zombie"; sh -c 'sh -c "exit 3" & exec sleep 30' & sleep 1; Z=$(awk '$3=="Z"{print $1}' /proc/[0-9]*/stat); echo zombie $Z; P=$!; for z in $Z; do ls -la /proc/$z; for f in stat statm status maps smaps smaps_rollup numa_maps cmdline comm environ auxv wchan limits io cgroup cpuset oom_score oom_score_adj stack sched schedstat syscall mounts mountinfo mountstats autogroup timens_offsets coredump_filter ksm_stat ksm_merging_pages personality timerslack_ns clear_refs pagemap arch_status patch_state timers; do echo "-- $f"; cat /proc/$z/$f; done; ls /proc/$z/fd /proc/$z/task /proc/$z/map_files /proc/$z/ns; ls -la /proc/$z/fd; readlink /proc/$z/exe /proc/$z/cwd /proc/$z/root; done
echo "== other uid"; cat > /tmp/u.sh <<'X'
id
for f in environ auxv status personality limits sched autogroup timens_offsets comm syscall cmdline stat statm maps numa_maps mem mounts mountinfo mountstats clear_refs smaps smaps_rollup pagemap wchan stack schedstat cpuset cgroup oom_score oom_score_adj loginuid sessionid coredump_filter io uid_map setgroups timers timerslack_ns patch_state ksm_stat; do echo "-- $f"; dd if=/proc/$1/$f bs=64 count=1 2>&1 | head -c 200; done
ls -la /proc/$1/fd /proc/$1/fdinfo /proc/$1/map_files /proc/$1/ns /proc/$1/task /proc/$1/cwd; readlink /proc/$1/exe /proc/$1/cwd /proc/$1/root /proc/$1/ns/net
cat /proc/$1/stat /proc/$1/timerslack_ns; echo 1 > /proc/$1/timerslack_ns; echo 1 > /proc/$1/comm; echo 1 > /proc/$1/oom_score_adj
X
chmod 755 /tmp/u.sh; which su setpriv setuidgid chpst start-stop-daemon 2>/dev/null; busybox --list | tr '\n' ' '
echo 'u:x:1000:1000::/:/bin/sh' >> /etc/passwd; echo "root:x:0:0::/:/bin/sh" >> /etc/passwd
busybox su -s /bin/sh u -c '/bin/sh /tmp/u.sh 1' || busybox setuidgid u /bin/sh /tmp/u.sh 1
echo "== own as user"; busybox su -s /bin/sh u -c 'echo -5 > /proc/self/oom_score_adj; echo 5 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj; echo 0 > /proc/self/oom_score_adj;  ls -la /proc/self/; cat /proc/self/timers; cat /proc/self/status | head -12; cat /proc/self/pagemap | head -c 8 | od; sleep 5 & cat /proc/$!/timerslack_ns; echo 4 > /proc/$!/timerslack_ns;  cat /proc/$!/timerslack_ns; echo abc > /proc/$!/comm; cat /proc/$!/comm'
echo "== misc"; echo 1 > /proc/1/autogroup; echo x > /proc/1/autogroup; echo > /proc/1/sched; echo "0 0 1" > /proc/1/uid_map; echo allow > /proc/1/setgroups; echo x > /proc/1/setgroups; echo 5 > /proc/1/loginuid; cat /proc/1/loginuid; echo "monotonic 1 1" > /proc/1/timens_offsets; echo  x > /proc/1/timens_offsets; echo x > /proc/1/limits
cat /proc/1/limits /proc/1/timers > /dev/null; cat /proc/self/task/*/children; echo; cat /proc/1/task/1/children; echo; cat /proc/1/task/1/environ | head -c 50
dmesg | grep -i -e LSM -e apparmor
kill $P
