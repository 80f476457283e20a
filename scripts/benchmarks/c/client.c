/* What a reader of small files pays, in ns an operation, one a line on standard output.
 *
 * client cat FILE TIMES      open, fstat, read to the end, close: what cat(1) does
 * client among PROCESSES COMMAND...
 *                            start that many sleeping processes and print "ready"; then for each line on standard input
 *                            fork, exec and wait for the command, its output thrown away
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int cat(const char *path, int times) {
    static char buffer[131072];
    long *took = malloc(times * sizeof *took);
    for (int i = 0; i < times; i++) {
        struct stat st;
        ssize_t n;
        long begin = now();
        int fd = open(path, O_RDONLY);
        if (fd < 0 || fstat(fd, &st)) { perror(path); return 1; }
        while ((n = read(fd, buffer, sizeof buffer)) > 0);
        close(fd);
        if (n < 0) { perror(path); return 1; }
        took[i] = now() - begin;
    }
    for (int i = 0; i < times; i++) printf("%ld\n", took[i]);
    return 0;
}

static int among(int processes, char **command) {
    char line[16];
    while (processes--)
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;) pause();
        }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        int status;
        long begin = now();
        pid_t pid = fork();
        if (!pid) {
            int null = open("/dev/null", O_RDWR);
            dup2(null, 0);
            dup2(null, 1);
            execvp(*command, command);
            _exit(127);
        }
        waitpid(pid, &status, 0);
        if (status) { fprintf(stderr, "%s: status %d\n", *command, status); return 1; }
        printf("%ld\n", now() - begin);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "cat")) return cat(argv[2], atoi(argv[3]));
    if (argc >= 4 && !strcmp(argv[1], "among")) return among(atoi(argv[2]), argv + 3);
    fputs("client cat FILE TIMES | among PROCESSES COMMAND...\n", stderr);
    return 2;
}
