"""DAMON, the data access monitor: which memory is hot and which is cold, and what is done about it.

Memory that is monitored is cut into regions, each of which is taken to be accessed alike all over. Of each a page is
sampled again and again; in how many samples of an aggregation interval it was accessed is the region's nr_accesses.
Then neighbours that are alike are merged, and all are cut anew at random, so that borders come to lie where accesses
change, and the work depends on the number of regions, not on the size of memory (core.py, kdamond.py).

What pages are, the operations know: those of address spaces (vaddr.py) and of physical memory (paddr.py). What is done
with regions that fit a pattern is a scheme (schemes.py). Users rule it by /sys/kernel/mm/damon (sysfs.py), or take
damon_reclaim or damon_lru_sort, which are made of the same (reclaim.py, lru_sort.py).
"""
