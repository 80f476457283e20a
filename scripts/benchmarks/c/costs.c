/* What the kernel that this runs on takes for system calls, faults and processes, in ns of CPU time of one core.
 *
 * costs ROUNDS: a line `ns NAME` for each, the least of the rounds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 16384
#define CALLS 100000
#define SWITCHES 10000
#define SPAWNS 100

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static char *area(int pages)
{
    char *at = mmap(0, pages * 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        exit(1);
    madvise(at, pages * 4096L, MADV_NOHUGEPAGE);
    return at;
}

static void touch(volatile char *at, int pages)
{
    for (int i = 0; i < pages; i++)
        at[i * 4096L] = 1;
}

static double syscall_ns(void)
{
    double begin = now();
    for (int i = 0; i < CALLS; i++)
        syscall(SYS_getppid);
    return (now() - begin) / CALLS;
}

static double fault_ns(void)
{
    char *at = area(PAGES);
    double begin = now();
    touch(at, PAGES);
    double took = now() - begin;
    munmap(at, PAGES * 4096L);
    return took / PAGES;
}

static double unmap_ns(void)
{
    char *at = area(PAGES);
    touch(at, PAGES);
    double begin = now();
    munmap(at, PAGES * 4096L);
    return (now() - begin) / PAGES;
}

/* In a child, whose answer comes through a pipe. */
static double in_child(double (*what)(void *), void *of)
{
    int ends[2];
    double took = 0;
    if (pipe(ends))
        exit(1);
    if (!fork()) {
        took = what(of);
        _exit(write(ends[1], &took, sizeof took) != sizeof took);
    }
    if (read(ends[0], &took, sizeof took) != sizeof took)
        exit(1);
    wait(0);
    close(ends[0]);
    close(ends[1]);
    return took;
}

static double write_all(void *at)
{
    double begin = now();
    touch(at, PAGES);
    return (now() - begin) / PAGES;
}

static double cow_ns(void)
{
    char *at = area(PAGES);
    touch(at, PAGES);
    double took = in_child(write_all, at);
    munmap(at, PAGES * 4096L);
    return took;
}

static double vfork_ns(int pages, const char *program)
{
    char *at = area(pages + 1);
    double took = 0;
    touch(at, pages);
    for (int i = 0; i < SPAWNS; i++) {
        double begin = now();
        int pid = fork();
        if (!pid) {
            if (program)
                execl(program, program, "0", (char *)0);
            _exit(0);
        }
        if (!program)
            took += now() - begin;
        waitpid(pid, 0, 0);
        if (program)
            took += now() - begin;
    }
    munmap(at, (pages + 1) * 4096L);
    return took / SPAWNS;
}

static double fork_ns(void) { return vfork_ns(0, 0); }
static double copy_pte_ns(void) { return (vfork_ns(PAGES, 0) - vfork_ns(0, 0)) / PAGES; }
static double spawn_ns(void) { return vfork_ns(0, "/proc/self/exe"); }

static double read_page_ns(void)
{
    static char buffer[1 << 16];
    int fd = memfd_create("costs", 0);
    for (int i = 0; i < 64; i++)
        if (write(fd, buffer, sizeof buffer) < 0)
            exit(1);
    double begin = now();
    for (int i = 0; i < 256; i++)
        if (pread(fd, buffer, sizeof buffer, (i % 64) * (long)sizeof buffer) < 0)
            exit(1);
    double took = now() - begin;
    close(fd);
    return took / 256 / (sizeof buffer / 4096);
}

static double switch_ns(void)
{
    int to[2], from[2];
    char c = 0;
    cpu_set_t one;
    if (pipe(to) || pipe(from))
        exit(1);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    int pid = fork();
    if (!pid) {
        for (int i = 0; i < SWITCHES; i++)
            if (read(to[0], &c, 1) != 1 || write(from[1], &c, 1) != 1)
                _exit(1);
        _exit(0);
    }
    double begin = now();
    for (int i = 0; i < SWITCHES; i++)
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            exit(1);
    double took = now() - begin;
    waitpid(pid, 0, 0);
    close(to[0]); close(to[1]); close(from[0]); close(from[1]);
    return took / SWITCHES / 2;
}

int main(int argc, char **argv)
{
    static const struct { const char *name; double (*measure)(void); } costs[] = {
        {"SYSCALL", syscall_ns}, {"FAULT_MINOR", fault_ns}, {"FAULT_COW", cow_ns}, {"UNMAP_PAGE", unmap_ns},
        {"COPY_PTE", copy_pte_ns}, {"READ_PAGE", read_page_ns}, {"FORK", fork_ns}, {"SPAWN", spawn_ns},
        {"WAKEUP", switch_ns},
    };
    int rounds = argc > 1 ? atoi(argv[1]) : 5;
    for (unsigned i = 0; rounds && i < sizeof costs / sizeof *costs; i++) {
        double best = 1e18;
        for (int turn = 0; turn < rounds; turn++) {
            double took = costs[i].measure();
            best = took < best ? took : best;
        }
        printf("%.0f %s\n", best, costs[i].name);
        fflush(stdout);
    }
    return 0;
}
