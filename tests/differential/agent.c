/* /init of a guest that does what it is told over its second serial line, one request a line, and answers with a line.
 *
 * Fields are split by tabs; in them \t, \n and \\ are escaped. A request is UID VERB ARGUMENT...; the answer is
 * `ok TEXT`, `error ERRNO`, or `dead` where the process that should have done it is.
 *   mkdir PATH   rmdir PATH   read PATH   write PATH TEXT   list PATH   chown PATH UID   mode PATH
 *   open PATH   fread F   fwrite F TEXT   woken F   close F       F numbers an open file
 *   remount OPTIONS               of the cgroup hierarchy
 *   tmpfs OPTIONS                 the same of the tmpfs on /dev/shm
 *   cut PATH BYTES   unlink PATH
 *   post PID VERB ARGUMENT        as `do`, without waiting for the end, which `do PID` waits for
 *   spawn   do PID VERB ARGUMENT...   alive PID   kill PID   reap PID   sleep MILLISECONDS   reset
 * A spawned process and its children (`do PID fork`) take these verbs:
 *   thp 0|1   collapse   punch FIRST BYTES EVERY   grow BYTES   share BYTES   huge BYTES   share_huge BYTES   reserve BYTES   again   release   read PATH OFFSET BYTES   fill PATH BYTES   drop PATH
 *   map PATH BYTES   drain OFFSET BYTES   cancel OFFSET BYTES      map a file; drop and unmap a part of what was mapped last
 *   fork   thread   wait   exit   write PATH TEXT   policy MODE NODEMASK
 *   mbind MODE NODEMASK FLAGS   move OFFSET NODE FLAGS   migrate FROM TO   what was mapped last; NODE -1 asks only; node masks
 *   socket ROOM   send BYTES   receive   shut         a UDP socket that is its own peer
 *   shmget KEY BYTES FLAGS   shmat ID FLAGS   shmdt   shmrm ID   fallocate PATH MODE OFFSET BYTES
 *   dup FD        descriptor 0 once more; the limit is raised for it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define PAGE 4096
#define FIELDS 8
static char text[1 << 16], line[1 << 17], block[1 << 17];
static char *field[FIELDS], *area[64];
static size_t length[64];
static int areas;

static void unescape(char *at) {
    char *to = at;
    for (; *at; at++) {
        if (*at == '\\' && at[1]) *to++ = *++at == 't' ? '\t' : *at == 'n' ? '\n' : *at;
        else *to++ = *at;
    }
    *to = 0;
}

static void escape(char *to, const char *from) {
    for (; *from; from++) {
        if (*from == '\t' || *from == '\n' || *from == '\\') {
            *to++ = '\\';
            *to++ = *from == '\t' ? 't' : *from == '\n' ? 'n' : '\\';
        } else *to++ = *from;
    }
    *to = 0;
}

static int split(char *request) {
    int n = 0;
    for (char *part; n < FIELDS && (part = strsep(&request, "\t"));) field[n++] = part;
    for (int i = 0; i < n; i++) unescape(field[i]);
    for (int i = n; i < FIELDS; i++) field[i] = "";
    return n;
}

static int slurp(int fd) {
    ssize_t n = 0, got = 0;
    while (n < (ssize_t)sizeof text - 1 && (got = pread(fd, text + n, sizeof text - 1 - n, n)) > 0) n += got;
    text[got < 0 ? 0 : n] = 0;
    return got < 0 ? errno : 0;
}

static int put(const char *path, const char *what) {
    int fd = open(path, O_WRONLY), failed = fd < 0 || write(fd, what, strlen(what)) < 0 ? errno : 0;
    close(fd);
    return failed;
}

static int map(size_t bytes, int flags) {
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    if (at == MAP_FAILED) return errno;
    area[areas] = at, length[areas++] = bytes;
    for (size_t i = 0; i < bytes; i += PAGE) *(volatile long *)(at + i) = (long)(at + i) * 2654435761 + getpid();
    return 0;
}

static int reserve(size_t bytes) {
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE | MAP_HUGETLB, -1, 0);
    if (at == MAP_FAILED) return errno;
    area[areas] = at, length[areas++] = bytes;
    return 0;
}

static int map_file(const char *path, size_t bytes) {
    int fd = open(path, O_RDWR);
    if (fd < 0) return errno;
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) return errno;
    area[areas] = at, length[areas++] = bytes;
    return 0;
}

static int read_file(const char *path, long offset, long bytes) {
    int fd = open(path, O_RDONLY), failed = 0;
    if (fd < 0) return errno;
    for (long at = offset; at < offset + bytes && !failed; at += sizeof block)
        if (pread(fd, block, offset + bytes - at < (long)sizeof block ? offset + bytes - at : (long)sizeof block, at) < 0) failed = errno;
    close(fd);
    return failed;
}

static int fill_file(const char *path, long bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), failed = 0;
    if (fd < 0) return errno;
    for (long at = 0; at < bytes && !failed; at += sizeof block)
        if (write(fd, block, bytes - at < (long)sizeof block ? bytes - at : (long)sizeof block) < 0) failed = errno;
    close(fd);
    return failed;
}

static int drop_file(const char *path) {
    int fd = open(path, O_RDONLY), failed;
    if (fd < 0) return errno;
    fsync(fd);
    failed = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return failed;
}

static int find_frame(char *at) {
    unsigned long entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY), failed = pread(fd, &entry, sizeof entry, (unsigned long)at / PAGE * 8) < 0 ? errno : 0;
    close(fd);
    snprintf(text, sizeof text, "%lu", entry >> 63 ? entry & (1UL << 55) - 1 : 0);
    return failed;
}

static int attach(int id, int flags) {
    struct shmid_ds found;
    if (shmctl(id, IPC_STAT, &found)) return errno;
    char *at = shmat(id, NULL, flags);
    if (at == (void *)-1) return errno;
    area[areas] = at, length[areas++] = found.shm_segsz;
    return 0;
}

static int allocate(const char *path, int mode, long offset, long bytes) {
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    int failed = fd < 0 || fallocate(fd, mode, offset, bytes) ? errno : 0;
    close(fd);
    return failed;
}

static int peer;
static int open_socket(int room) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof here;
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    peer = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (peer < 0 || ioctl(peer, SIOCSIFFLAGS, &lo) || setsockopt(peer, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room)
        || bind(peer, (void *)&here, size) || getsockname(peer, (void *)&here, &size) || connect(peer, (void *)&here, size)) return errno;
    return 0;
}

static int again_at(int fd) {
    struct rlimit limit = {fd + 1, fd + 1};
    return setrlimit(RLIMIT_NOFILE, &limit) || dup2(0, fd) < 0 ? errno : 0;
}

static int thread_id;
static void *idle(void *unused) {
    thread_id = syscall(SYS_gettid);
    for (;;) pause();
    return unused;
}

static void work(void);

static int fork_worker(void) {
    int pid = fork();
    if (!pid) work();
    if (pid < 0) return errno;
    snprintf(text, sizeof text, "%d", pid);
    for (char path[32]; snprintf(path, sizeof path, "/run/%d.out", pid), access(path, F_OK);) usleep(1000);
    return 0;
}

static int start_thread(void) {
    pthread_t thread;
    thread_id = 0;
    int failed = pthread_create(&thread, NULL, idle, NULL);
    while (!failed && !*(volatile int *)&thread_id) usleep(1000);
    snprintf(text, sizeof text, "%d", thread_id);
    return failed;
}

static int serve(void) {
    const char *verb = field[0];
#define IS(word) (!strcmp(verb, word))
    if (IS("grow")) return map(atol(field[1]), MAP_PRIVATE);
    if (IS("share")) return map(atol(field[1]), MAP_SHARED);
    if (IS("huge")) return map(atol(field[1]), MAP_PRIVATE | MAP_HUGETLB);
    if (IS("share_huge")) return map(atol(field[1]), MAP_SHARED | MAP_HUGETLB);
    if (IS("reserve")) return reserve(atol(field[1]));
    if (IS("again")) {
        for (int n = 0; n < areas; n++)
            for (size_t i = 0; i < length[n]; i += PAGE) (void)*(volatile char *)(area[n] + i);
        return 0;
    }
    if (IS("thp")) return prctl(PR_SET_THP_DISABLE, !atoi(field[1]), 0, 0, 0) ? errno : 0;
    if (IS("collapse")) return madvise(area[areas - 1], length[areas - 1], MADV_COLLAPSE) ? errno : 0;
    if (IS("advise")) return madvise(area[areas - 1], length[areas - 1], atoi(field[1])) ? errno : 0;
    if (IS("advise_part")) return madvise(area[areas - 1] + atol(field[2]), atol(field[3]), atoi(field[1])) ? errno : 0;
    if (IS("lock")) return mlock2(area[areas - 1] + atol(field[1]), atol(field[2]), atoi(field[3])) ? errno : 0;
    if (IS("unlock")) return munlock(area[areas - 1] + atol(field[1]), atol(field[2])) ? errno : 0;
    if (IS("punch")) {
        for (size_t i = atol(field[1]); i < length[areas - 1]; i += atol(field[3]))
            if (madvise(area[areas - 1] + i, atol(field[2]), MADV_DONTNEED)) return errno;
        return 0;
    }
    if (IS("dirty")) {
        for (size_t i = 0; i < length[areas - 1]; i += PAGE) *(volatile char *)(area[areas - 1] + i) = 1;
        return 0;
    }
    if (IS("map")) return map_file(field[1], atol(field[2]));
    if (IS("drain")) return madvise(area[areas - 1] + atol(field[1]), atol(field[2]), MADV_REMOVE) ? errno : 0;
    if (IS("cancel")) return munmap(area[areas - 1] + atol(field[1]), atol(field[2])) ? errno : 0;
    if (IS("frame")) return find_frame(area[areas - 1] + atol(field[1]));
    if (IS("release")) {
        while (areas) areas--, munmap(area[areas], length[areas]);
        return 0;
    }
    if (IS("read")) return read_file(field[1], atol(field[2]), atol(field[3]));
    if (IS("fill")) return fill_file(field[1], atol(field[2]));
    if (IS("drop")) return drop_file(field[1]);
    if (IS("fork")) return fork_worker();
    if (IS("thread")) return start_thread();
    if (IS("wait")) return wait(NULL) < 0 ? errno : 0;
    if (IS("write")) return put(field[1], field[2]);
    if (IS("policy")) {
        unsigned long nodes = strtoul(field[2], NULL, 0);
        return syscall(SYS_set_mempolicy, atoi(field[1]), nodes ? &nodes : NULL, 64) ? errno : 0;
    }
    if (IS("mbind")) {
        unsigned long nodes = strtoul(field[2], NULL, 0);
        return syscall(SYS_mbind, area[areas - 1], length[areas - 1], atoi(field[1]), &nodes, 64, atoi(field[3])) ? errno : 0;
    }
    if (IS("move")) {
        void *page = area[areas - 1] + atol(field[1]);
        int node = atoi(field[2]), status = -1;
        long left = syscall(SYS_move_pages, 0, 1, &page, node < 0 ? NULL : &node, &status, atoi(field[3]));
        snprintf(text, sizeof text, "%d", status);
        return left ? left < 0 ? errno : EAGAIN : 0;
    }
    if (IS("migrate")) {
        unsigned long from = strtoul(field[1], NULL, 0), to = strtoul(field[2], NULL, 0);
        long left = syscall(SYS_migrate_pages, 0, 64, &from, &to);
        snprintf(text, sizeof text, "%ld", left);
        return left < 0 ? errno : 0;
    }
    if (IS("socket")) return open_socket(atoi(field[1]));
    if (IS("send")) return send(peer, block, atoi(field[1]), 0) < 0 ? errno : 0;
    if (IS("receive")) return recv(peer, block, sizeof block, 0) < 0 ? errno : 0;
    if (IS("shut")) return close(peer) ? errno : 0;
    if (IS("shmget")) {
        int id = shmget(strtol(field[1], NULL, 0), atol(field[2]), atoi(field[3]));
        snprintf(text, sizeof text, "%d", id);
        return id < 0 ? errno : 0;
    }
    if (IS("shmat")) return attach(atoi(field[1]), atoi(field[2]));
    if (IS("shmdt")) return shmdt(area[areas - 1]) ? errno : (areas--, 0);
    if (IS("shmrm")) return shmctl(atoi(field[1]), IPC_RMID, NULL) ? errno : 0;
    if (IS("fallocate")) return allocate(field[1], atoi(field[2]), atol(field[3]), atol(field[4]));
    if (IS("dup")) return again_at(atoi(field[1]));
    if (IS("exit")) _exit(0);
    return ENOSYS;
}

/* A worker: requests come through one pipe in /run, answers go through another. */
static void work(void) {
    char in[32], out[32];
    snprintf(in, sizeof in, "/run/%d.in", getpid());
    snprintf(out, sizeof out, "/run/%d.out", getpid());
    mkfifo(in, 0600);
    int requests = open(in, O_RDWR);
    mkfifo(out, 0600);
    int answers = open(out, O_RDWR);
    for (;;) {
        ssize_t n = 0;
        while (read(requests, line + n, 1) == 1 && line[n] != '\n') n++;
        line[n] = 0;
        split(line);
        text[0] = 0;
        int failed = serve();
        n = failed ? sprintf(line, "error %d\n", failed) : sprintf(line, "ok %s\n", text);
        if (write(answers, line, n) != n) _exit(1);
    }
}

static int living(int pid) {
    char path[32], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd >= 0 && !slurp(fd) && strrchr(text, ')')) state = strrchr(text, ')')[2];
    close(fd);
    return state != 'Z' && state != 'X';
}

/* Have a worker begin with a request. */
static int post(int pid, const char *request) {
    char path[32];
    snprintf(path, sizeof path, "/run/%d.in", pid);
    int in = open(path, O_WRONLY | O_NONBLOCK), failed = in < 0 || dprintf(in, "%s\n", request) < 0 ? errno : 0;
    close(in);
    return failed;
}

/* Pass the rest of a request on to a worker, if there is one, and wait for its answer, or for its end. */
static const char *pass(int pid, const char *request) {
    static char answer[1 << 16];
    char path[32];
    if (!living(pid)) return "dead";
    snprintf(path, sizeof path, "/run/%d.in", pid);
    int in = open(path, O_RDWR);
    snprintf(path, sizeof path, "/run/%d.out", pid);
    int out = open(path, O_RDWR);
    if (request) dprintf(in, "%s\n", request);
    struct pollfd waiting = {out, POLLIN, 0};
    while (!poll(&waiting, 1, 20) && living(pid));
    ssize_t n = 0;
    while (poll(&waiting, 1, 0) && read(out, answer + n, 1) == 1 && answer[n] != '\n') n++;
    answer[n] = 0;
    close(in), close(out);
    return n ? answer : "dead";
}

static void remove_tree(const char *path) {
    char below[1 << 12];
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_type == DT_DIR && *entry->d_name != '.' && snprintf(below, sizeof below, "%s/%s", path, entry->d_name) > 0)
            remove_tree(below), rmdir(below);
    if (directory) closedir(directory);
}

static void reset(void) {
    for (int fd = 10; fd < 64; fd++) close(fd);
    kill(-1, SIGKILL);
    while (wait(NULL) > 0 || errno == EINTR);
    remove_tree("/sys/fs/cgroup");
    put("/sys/fs/cgroup/cgroup.subtree_control", "-cpuset -memory -hugetlb -pids");
    mount("none", "/sys/fs/cgroup", "cgroup2", MS_REMOUNT, "");
    put("/proc/sys/vm/nr_hugepages", "0");
    sync();
    put("/proc/sys/vm/drop_caches", "3");
}

static int act(void) {
    const char *verb = field[1], *path = field[2];
    int fd = atoi(path);
    struct stat found;
    if (IS("mkdir")) return mkdir(path, 0755) ? errno : 0;
    if (IS("rmdir")) return rmdir(path) ? errno : 0;
    if (IS("write")) return put(path, field[3]);
    if (IS("chown")) return chown(path, atoi(field[3]), -1) ? errno : 0;
    if (IS("read")) {
        int failed = (fd = open(path, O_RDONLY)) < 0 ? errno : slurp(fd);
        close(fd);
        return failed;
    }
    if (IS("mode")) {
        if (stat(path, &found)) return errno;
        snprintf(text, sizeof text, "%o", found.st_mode & 07777);
        return 0;
    }
    if (IS("list")) {
        DIR *directory = opendir(path);
        if (!directory) return errno;
        for (struct dirent *entry; (entry = readdir(directory));) strcat(strcat(text, entry->d_name), "\n");
        closedir(directory);
        return 0;
    }
    if (IS("open")) {
        if ((fd = open(path, O_RDWR)) < 0 && (fd = open(path, O_RDONLY)) < 0) return errno;
        int high = fcntl(fd, F_DUPFD, 10);
        close(fd);
        snprintf(text, sizeof text, "%d", high);
        return 0;
    }
    if (IS("fread")) return slurp(fd);
    if (IS("fwrite")) return write(fd, field[3], strlen(field[3])) < 0 ? errno : 0;
    if (IS("close")) return close(fd) ? errno : 0;
    if (IS("woken")) {
        struct pollfd waiting = {fd, POLLPRI, 0};
        snprintf(text, sizeof text, "%d", poll(&waiting, 1, 300) == 1 && waiting.revents & POLLPRI);
        return 0;
    }
    if (IS("remount")) return mount("none", "/sys/fs/cgroup", "cgroup2", MS_REMOUNT, path) ? errno : 0;
    if (IS("tmpfs")) return mount("none", "/dev/shm", "tmpfs", MS_REMOUNT, path) ? errno : 0;
    if (IS("cut")) return truncate(path, atol(field[3])) ? errno : 0;
    if (IS("unlink")) return unlink(path) ? errno : 0;
    if (IS("swapon")) return swapon(path, 0) ? errno : 0;
    if (IS("swapoff")) return swapoff(path) ? errno : 0;
    if (IS("spawn")) return fork_worker();
    if (IS("post")) {
        char words[256];
        snprintf(words, sizeof words, field[4] && *field[4] ? "%s\t%s" : "%s", field[3], field[4]);
        return post(fd, words);
    }
    if (IS("alive")) { int is = living(fd); snprintf(text, sizeof text, "%d", is); return 0; }
    if (IS("kill")) return kill(fd, SIGKILL) ? errno : 0;
    if (IS("reap")) return waitpid(fd, NULL, 0) < 0 ? errno : 0;
    if (IS("sleep")) { usleep(1000 * fd); return 0; }
    if (IS("reset")) { reset(); return 0; }
    return ENOSYS;
}

static void answer(FILE *serial) {
    int failed = act();
    escape(line, text);
    if (failed) fprintf(serial, "error %d\n", failed);
    else fprintf(serial, "ok %s\n", line);
    fflush(serial);
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
}

static void mount_all(void) {
    static const char *places[][3] = {{"/proc", "proc"}, {"/dev", "devtmpfs"}, {"/sys", "sysfs"}, {"/run", "tmpfs"},
                                      {"/sys/fs/cgroup", "cgroup2"}, {"/dev/shm", "tmpfs"},
                                      {"/dev/hugepages", "hugetlbfs"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        mkdir(places[i][0], 0755);
        if (mount("none", places[i][0], places[i][1], 0, NULL)) printf("%s: %s\n", places[i][0], strerrorname_np(errno));
    }
    load_modules();
    for (int tries = 0; access("/dev/vdb", F_OK) && tries < 200; tries++) usleep(50000);
    mkdir("/data", 0755);
    if (mount("/dev/vda", "/data", "ext4", 0, NULL)) printf("/data: %s\n", strerrorname_np(errno));
    if (swapon("/dev/vdb", 0)) printf("swapon: %s\n", strerrorname_np(errno));
}

int main(void) {
    char request[1 << 16];
    struct termios raw;
    memset(block, 7, sizeof block);
    mount_all();
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    int fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
    tcgetattr(fd, &raw);
    cfmakeraw(&raw);
    tcsetattr(fd, TCSANOW, &raw);
    FILE *serial = fdopen(fd, "w"), *requests = fdopen(dup(fd), "r");
    fputs("ready\n", serial);
    fflush(serial);
    while (fgets(request, sizeof request, requests)) {
        request[strcspn(request, "\n")] = 0;
        char *rest = strstr(request, "\tdo\t");
        text[0] = 0;
        if (rest) {
            int pid = strtol(rest + 4, &rest, 10);
            fprintf(serial, "%s\n", pass(pid, *rest ? rest + 1 : NULL));
            fflush(serial);
            continue;
        }
        split(request);
        if (!atoi(field[0])) {
            answer(serial);
        } else if (!fork()) {
            if (setresgid(1000, 1000, 1000) || setresuid(atoi(field[0]), atoi(field[0]), atoi(field[0]))) _exit(1);
            answer(serial);
            _exit(0);
        } else {
            wait(NULL);
        }
    }
    reboot(RB_POWER_OFF);
    return 0;
}
