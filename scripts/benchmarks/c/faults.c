/* First touches of anonymous memory a second on the real kernel, huge pages off.
 *
 * faults MEGABYTES PASSES [random]   touches them in order, or in random order, and prints the ns of wall clock time and of
 * CPU time of each pass, one a line
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

static long now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(int argc, char **argv) {
    size_t size = (argc > 1 ? atol(argv[1]) : 256) << 20;
    int passes = argc > 2 ? atoi(argv[2]) : 5;
    size_t pages = size / 4096, *order = malloc(pages * sizeof *order);
    unsigned long seed = 88172645463325252UL;
    for (size_t i = 0; i < pages; i++) order[i] = i * 4096;
    for (size_t i = pages - 1; argc > 3 && i; i--) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        size_t other = seed % (i + 1), kept = order[i];
        order[i] = order[other], order[other] = kept;
    }
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    while (passes--) {
        char *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) { perror("mmap"); return 1; }
        madvise(area, size, MADV_NOHUGEPAGE);
        long wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
        for (size_t i = 0; i < pages; i++) ((volatile char *)area)[order[i]] = 1;
        printf("%ld %ld\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        munmap(area, size);
    }
    return 0;
}
