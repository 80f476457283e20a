echo never > /sys/kernel/mm/transparent_hugepage/enabled
st() { echo "# $1 $(grep DMA32 /proc/buddyinfo | cut -d2 -f2-) $(grep -E 'compact_(migrate|free|isol|stall|fail|succ)' /proc/vmstat | cut -d_ -f2- | tr '\n' ' ') $(grep MemFree /proc/meminfo)"; }
hp() { r=""; for n in 10 50 100 200 300 400 450 500; do echo $n > /proc/sys/vm/nr_hugepages; r="$r $(cat /proc/sys/vm/nr_hugepages)"; done; echo "$1 $r"; st $1; echo 0 > /proc/sys/vm/nr_hugepages; }
echo 3 > /proc/sys/vm/drop_caches; st start; hp clean
fr() { rm -f /dev/shm/fr; probe frag $1 movable 600 /dev/shm/fr > /dev/null & F=$!; while [ ! -e /dev/shm/fr ]; do sleep 0.3; done; st before$1; }
fr 500; echo 1 > /proc/sys/vm/compact_memory; st compact500; kill $F; sleep 1
for i in 1 2 3; do fr 900; hp movable900.$i; kill $F; sleep 1; done
