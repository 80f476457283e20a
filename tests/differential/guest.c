/* /init of a guest that makes system calls as a scenario says and prints what the kernel counts.
 *
 * The file /scenarios of the initial RAM disk has one step a line; sizes are bytes, N numbers a mapping:
 *   scenario NAME            what follows is done by a new process
 *   mmap N SIZE PROT FLAGS   touch N OFFSET SIZE STRIDE r|w   munmap N OFFSET SIZE   mprotect N OFFSET SIZE PROT
 *   madvise N OFFSET SIZE ADVICE   fork   wait   brk SIZE   mlock N OFFSET SIZE   write FILE TEXT   snap LABEL
 *   open F PATH   read F OFFSET SIZE   fwrite F OFFSET SIZE   fsync F   fadvise F OFFSET SIZE ADVICE   truncate F SIZE
 *   fmap N F SIZE PROT FLAGS   sync   mount TYPE DIRECTORY OPTIONS   turn parent|child   errno LABEL STEP   unlink PATH
 *   close F
 * F numbers an open file, which is made if it is not there; /data is the disk, if there is one. Reads and writes are of at
 * most 128 KB each. mincoreN is how many pages of the mapping N are cached.
 * The steps between `fork` and `wait` are the child's, until `turn` says whose. `errno` prints what a step fails with, as
 * SCENARIO LABEL errno VALUE: minus the signal where it is killed. Transparent huge pages are off. `snap` prints the process's own counters, those of
 * the machine, and smaps of each mapping, as lines `SCENARIO LABEL NAME VALUE`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

static char *area[64], page[1 << 17];
static size_t length[64];
static int file[64];
static const char *scenario;
static char buffer[1 << 18], output[1 << 20];
static unsigned char cached[1 << 16];
static sigjmp_buf killed;

static void on_signal(int number) { siglongjmp(killed, number); }

static char *slurp(const char *path) {
    int fd = open(path, O_RDONLY);
    ssize_t n = 0, got;
    if (fd < 0) { buffer[0] = 0; return buffer; }
    while ((got = read(fd, buffer + n, sizeof buffer - 1 - n)) > 0) n += got;
    close(fd);
    buffer[n] = 0;
    return buffer;
}

static void names(const char *label, const char *prefix, const char *path) {
    char *text = slurp(path), name[64];
    long value;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (sscanf(line, "%63[^: \t]%*[: \t]%ld", name, &value) == 2) printf("%s %s %s%s %ld\n", scenario, label, prefix, name, value);
}

static void snap(const char *label) {
    char *text = strrchr(slurp("/proc/self/stat"), ')');
    long minflt, cminflt, majflt, vsize, rss;
    sscanf(text + 2, "%*c %*d %*d %*d %*d %*d %*u %ld %ld %ld %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %ld %ld", &minflt, &cminflt,
           &majflt, &vsize, &rss);
    printf("%s %s stat.minflt %ld\n", scenario, label, minflt);
    printf("%s %s stat.majflt %ld\n", scenario, label, majflt);
    printf("%s %s stat.vsize %ld\n", scenario, label, vsize);
    names(label, "status.", "/proc/self/status");
    names(label, "meminfo.", "/proc/meminfo");
    names(label, "vmstat.", "/proc/vmstat");
    for (int n = 0; n < 64; n++) {
        if (!area[n]) continue;
        if (length[n]) {
            long count = 0;
            mincore(area[n], length[n], cached);
            for (size_t i = 0; i < length[n] >> 12; i++) count += cached[i] & 1;
            printf("%s %s mincore%d %ld\n", scenario, label, n, count);
        }
        unsigned long from, to;
        int inside = 0;
        char *text = slurp("/proc/self/smaps"), name[64];
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
            long value;
            if (sscanf(line, "%lx-%lx ", &from, &to) == 2) inside = from <= (unsigned long)area[n] && (unsigned long)area[n] < to;
            else if (inside && sscanf(line, "%63[^:]: %ld kB", name, &value) == 2)
                printf("%s %s smaps%d.%s %ld\n", scenario, label, n, name, value);
        }
    }
    fflush(stdout);
}

static int step(char *line) {
    char verb[16], text[64], how;
    long n, a, b, c, d;
    if (sscanf(line, "%15s", verb) != 1) return 0;
#define IS(word, count, ...) (!strcmp(verb, word) && sscanf(line, "%*s " __VA_ARGS__) == count)
    if (IS("mmap", 4, "%ld %ld %ld %ld", &n, &a, &b, &c)) {
        char *at = mmap(NULL, a, b, c, -1, 0);
        if (at == MAP_FAILED) return errno;
        area[n] = at;
        return 0;
    }
    if (IS("touch", 5, "%ld %ld %ld %ld %c", &n, &a, &b, &c, &how)) {
        for (long at = a; at < a + b; at += c) {
            if (how == 'w') ((volatile char *)area[n])[at] = 1;
            else (void)((volatile char *)area[n])[at];
        }
        return 0;
    }
    if (IS("munmap", 3, "%ld %ld %ld", &n, &a, &b)) return munmap(area[n] + a, b) ? errno : 0;
    if (IS("mprotect", 4, "%ld %ld %ld %ld", &n, &a, &b, &c)) return mprotect(area[n] + a, b, c) ? errno : 0;
    if (IS("madvise", 4, "%ld %ld %ld %ld", &n, &a, &b, &c)) return madvise(area[n] + a, b, c) ? errno : 0;
    if (IS("mlock", 3, "%ld %ld %ld", &n, &a, &b)) return mlock(area[n] + a, b) ? errno : 0;
    if (IS("brk", 1, "%ld", &a)) return sbrk(a) == (void *)-1 ? errno : 0;
    if (IS("write", 2, "%255s %63s", buffer, text)) {
        int fd = open(buffer, O_WRONLY), failed = fd < 0 || write(fd, text, strlen(text)) < 0 ? errno : 0;
        close(fd);
        return failed;
    }
    if (IS("open", 2, "%ld %255s", &n, buffer)) return (file[n] = open(buffer, O_RDWR | O_CREAT, 0644)) < 0 ? errno : 0;
    if (IS("read", 3, "%ld %ld %ld", &n, &a, &b) || IS("fwrite", 3, "%ld %ld %ld", &n, &a, &b)) {
        for (long at = a; at < a + b; at += sizeof page) {
            long part = a + b - at < (long)sizeof page ? a + b - at : (long)sizeof page;
            if ((*verb == 'r' ? pread(file[n], page, part, at) : pwrite(file[n], page, part, at)) < 0) return errno;
        }
        return 0;
    }
    if (IS("fsync", 1, "%ld", &n)) return fsync(file[n]) ? errno : 0;
    if (IS("fadvise", 4, "%ld %ld %ld %ld", &n, &a, &b, &c)) return posix_fadvise(file[n], a, b, c);
    if (IS("truncate", 2, "%ld %ld", &n, &a)) return ftruncate(file[n], a) ? errno : 0;
    if (IS("fmap", 5, "%ld %ld %ld %ld %ld", &n, &a, &b, &c, &d)) {
        char *at = mmap(NULL, b, c, d, file[a], 0);
        if (at == MAP_FAILED) return errno;
        area[n] = at, length[n] = b;
        return 0;
    }
    if (IS("mount", 3, "%15s %255s %63s", verb, buffer, text)) {
        mkdir(buffer, 0755);
        return mount(verb, buffer, verb, 0, text) ? errno : 0;
    }
    if (IS("close", 1, "%ld", &n)) return close(file[n]) ? errno : 0;
    if (IS("unlink", 1, "%255s", buffer)) return unlink(buffer) ? errno : 0;
    if (IS("errno", 1, "%63s", text)) {
        int number = sigsetjmp(killed, 1);
        char *rest = strchr(strchr(line, ' ') + 1, ' ') + 1;
        signal(SIGBUS, on_signal), signal(SIGSEGV, on_signal);
        number = number ? -number : step(rest);
        signal(SIGBUS, SIG_DFL), signal(SIGSEGV, SIG_DFL);
        printf("%s %s errno %d\n", scenario, text, number);
        return 0;
    }
    if (!strcmp(verb, "sync")) { sync(); return 0; }
    if (IS("snap", 1, "%63s", text)) { snap(text); return 0; }
    return ENOSYS;
}

static void play(char *rest) {
    char *line;
    enum { PARENT, CHILD } me = PARENT, actor = PARENT;
    int *turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), turn = 0;
    memset(buffer, 1, sizeof buffer); /* no faults of our own between two snaps */
    memset(output, 1, sizeof output);
    memset(page, 1, sizeof page);
    memset(cached, 1, sizeof cached);
    while ((line = strsep(&rest, "\n")) && strncmp(line, "scenario ", 9)) {
        if (!strcmp(line, "fork")) {
            fflush(stdout);
            actor = CHILD;
            if (!fork()) me = CHILD;
        } else if (!strncmp(line, "turn ", 5) || (!strcmp(line, "wait") && actor == PARENT)) {
            turn++;
            fflush(stdout);
            if (actor == me) __atomic_store_n(turns, turn, __ATOMIC_SEQ_CST);
            else while (__atomic_load_n(turns, __ATOMIC_SEQ_CST) < turn) usleep(1000);
            actor = !strcmp(line, "turn child") ? CHILD : PARENT;
        }
        if (!strcmp(line, "wait")) {
            if (me == CHILD) break;
            wait(NULL);
            actor = PARENT;
        } else if (actor == me && strcmp(line, "fork") && strncmp(line, "turn ", 5)) {
            int failed = step(line);
            if (failed) printf("error in %s: %s: %s\n", scenario, strerrorname_np(failed), line);
        }
    }
    exit(0);
}

static void load_modules(void) {
    struct dirent **names;
    int count = scandir("/mods", &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[300];
        snprintf(path, sizeof path, "/mods/%s", names[i]->d_name);
        int fd = open(path, O_RDONLY);
        if (fd >= 0) { syscall(SYS_finit_module, fd, "", 0); close(fd); unlink(path); }
    }
    if (count < 0) return;
    mkdir("/data", 0755), mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    for (int tries = 0; access("/dev/vda", F_OK) && tries < 100; tries++) usleep(50000);
    if (mount("/dev/vda", "/data", "ext4", 0, NULL)) printf("error in the guest: %s: mount /data\n", strerrorname_np(errno));
}

int main(void) {
    static char text[1 << 16], *line, *rest = text;
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    load_modules();
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    setvbuf(stdout, output, _IOFBF, sizeof output);
    puts("=====begin=====");
    fflush(stdout);
    strncpy(text, slurp("/scenarios"), sizeof text - 1);
    while ((line = strsep(&rest, "\n"))) {
        if (strncmp(line, "scenario ", 9)) continue;
        scenario = line + 9;
        if (!fork()) play(rest);
        wait(NULL);
    }
    puts("=====end=====");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 0;
}
