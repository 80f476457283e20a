/* Makes the memory-mapping calls of a file and prints, after each, what it returned and the VMAs it left.
 *
 *     cc -O1 -static record.c -o record;  record FILE UID
 *
 * The process runs without address-space randomisation, so that the addresses can be compared; it uses no
 * memory but its static buffers.  README.md has the format. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long ul;

static char buf[1 << 20], out[1 << 20], ops[1 << 16], altstack[65536];
static int used;
static sigjmp_buf back;

static void on_signal(int sig) { siglongjmp(back, sig); }

static void flush(void)
{
	for (int done = 0, n; done < used; done += n)
		if ((n = write(1, out + done, used - done)) <= 0)
			_exit(3);
	used = 0;
}

static int slurp(const char *path)
{
	int fd = open(path, O_RDONLY), n = 0, r;

	if (fd < 0)
		return -1;
	while ((r = read(fd, buf + n, sizeof buf - 1 - n)) > 0)
		n += r;
	close(fd);
	buf[n] = 0;
	return n;
}

static void state(const char *result, int with_names)
{
	static const char *sums[] = { "VmSize:", "VmData:", "VmStk:", "VmLck:", "VmExe:", "VmLib:" };

	used += sprintf(out + used, "%s", result);
	slurp("/proc/self/status");
	for (int i = 0; i < 6; i++) {
		char *p = strstr(buf, sums[i]);
		used += sprintf(out + used, "%c%lu", i ? ' ' : ';', p ? strtoul(p + 7, 0, 10) / 4 : 0);
	}
	slurp("/proc/self/smaps");
	for (char *line = buf, *end; *line && (end = strchr(line, '\n')); line = end + 1) {
		ul from, to, offset;
		char rights[8];
		int pos = 0;

		*end = 0;
		if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %n", &from, &to, rights, &offset, &pos) >= 4) {
			used += sprintf(out + used, ";%lx-%lx %s %lx", from, to, rights, offset >> 12);
			if (with_names)
				used += sprintf(out + used, " {%s}", pos ? line + pos : "");
		} else if (!strncmp(line, "VmFlags:", 8)) {
			used += sprintf(out + used, " %s", line + 9);
			while (out[used - 1] == ' ')
				used--;
		}
	}
	out[used++] = '\n';
	flush();
}

static long touch(ul addr, ul length, int write)
{
	volatile ul i = 0;
	volatile int sig = sigsetjmp(back, 1);

	if (!sig)
		for (i = 0; i < length; i += 4096) {
			if (write)
				*(volatile char *)(addr + i) = 1;
			else
				(void)*(volatile char *)(addr + i);
		}
	errno = 0;
	return i << 8 | sig;
}

static void carry_on_in_child(void)
{
	pid_t child = fork();
	int status;

	if (child) {
		waitpid(child, &status, 0);
		_exit(0);
	}
}

static long call(char op, ul *a, int rw, int ro)
{
	struct rlimit limit = { a[1], a[2] };

	switch (op) {
	case 'm': return syscall(SYS_mmap, a[0], a[1], a[2], a[3], -1L, a[4]);
	case 'M': return syscall(SYS_mmap, a[0], a[1], a[2], a[3], (long)rw, a[4]);
	case 'R': return syscall(SYS_mmap, a[0], a[1], a[2], a[3], (long)ro, a[4]);
	case 'u': return syscall(SYS_munmap, a[0], a[1]);
	case 'p': return syscall(SYS_mprotect, a[0], a[1], a[2]);
	case 'r': return syscall(SYS_mremap, a[0], a[1], a[2], a[3], a[4]);
	case 'l': return syscall(SYS_mlock, a[0], a[1]);
	case 'L': return syscall(SYS_mlock2, a[0], a[1], a[2]);
	case 'k': return syscall(SYS_munlock, a[0], a[1]);
	case 'A': return syscall(SYS_mlockall, a[0]);
	case 'K': return syscall(SYS_munlockall);
	case 'a': return syscall(SYS_madvise, a[0], a[1], a[2]);
	case 'b': return syscall(SYS_brk, a[0]);
	case 'x': return syscall(SYS_prlimit64, 0, a[0], &limit, 0L);
	case 't': return touch(a[0], a[1], a[2] != 0);
	case 'f': carry_on_in_child(); return 0;
	}
	_exit(5);
}

int main(int argc, char **argv)
{
	int fd, rw, ro;
	stack_t stack = { .ss_sp = altstack, .ss_size = sizeof altstack };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER };

	if (argc != 3)
		return 1;
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE)) {
		personality(personality(0xffffffff) | ADDR_NO_RANDOMIZE);
		execv("/proc/self/exe", argv);
		return 2;
	}
	rw = open("/data/fuzz.f", O_RDWR);
	ro = open("/data/fuzz.f", O_RDONLY);
	sigaltstack(&stack, 0);
	sigaction(SIGSEGV, &action, 0);
	sigaction(SIGBUS, &action, 0);
	memset(out, 1, sizeof out);
	memset(buf, 1, sizeof buf);
	fd = open(argv[1], O_RDONLY);
	ops[read(fd, ops, sizeof ops - 1)] = 0;
	close(fd);
	if (atoi(argv[2])) {
		if (setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))
			return 4;
		prctl(PR_SET_DUMPABLE, 1);
	}
	slurp("/proc/self/stat");
	used += sprintf(out + used, "#%s", strrchr(buf, ')') + 2);
	state("init", 1);
	for (char *line = ops, *end; *line && (end = strchr(line, '\n')); line = end + 1) {
		ul a[6] = { 0 };
		char *p = line + 1, result[64];
		long r;

		*end = 0;
		for (int i = 0; i < 6 && *p; i++)
			a[i] = strtoul(p, &p, 16);
		errno = 0;
		r = call(line[0], a, rw, ro);
		if (r == -1 && errno)
			strcpy(result, strerrorname_np(errno));
		else
			sprintf(result, "%lx", r);
		state(result, 0);
	}
	return 0;
}
