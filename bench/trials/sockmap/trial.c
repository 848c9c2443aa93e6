/* Would the kernel's sockmap carry bytes between two sockets more cheaply than copying or splice(2)? A trial, not a part of the mesh.
 *
 * In: a role (serve, relay, load) and its words, below. Out: the load's numbers. Absent on purpose: half-closes, errors worth naming.
 *   trial serve PORT                          echoes what begins with 'e', swallows what begins with 's'
 *   trial relay copy|splice|sockmap PORT TO   carries connections of PORT to TO, both on loopback
 *   trial load PORT echo|sink CONNECTIONS SECONDS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SOCKETS = 4096, EVENTS = 1024, CHUNK = 256 << 10, PIPE = 1 << 20, REQUEST = 64, SAMPLES = 10000000 };
static char bytes[CHUNK];

static void ended(const char *what) {
	perror(what);
	exit(1);
}

static void watch(int set, int fd, unsigned events) {
	struct epoll_event event = {.events = events, .data.fd = fd};
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) ended("epoll_ctl");
}

static struct sockaddr_in on_loopback(const char *port) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static void no_delay(int fd) {
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int listening(const char *port) {
	struct sockaddr_in address = on_loopback(port);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (void *)&address, sizeof address) || listen(fd, 1024)) ended("listen");
	return fd;
}

static int connected(const char *port) {
	struct sockaddr_in address = on_loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	/* Whoever listens there may have been started this moment. */
	for (int tries = 0; connect(fd, (void *)&address, sizeof address); tries++) {
		if (tries == 300) ended("connect");
		usleep(10000);
	}
	no_delay(fd);
	return fd;
}

static void serve(const char *port) {
	static char kind[SOCKETS];
	struct epoll_event events[EVENTS];
	int set = epoll_create1(0), listener = listening(port);
	for (watch(set, listener, EPOLLIN);;) {
		for (int i = epoll_wait(set, events, EVENTS, -1); i-- > 0;) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				int next = accept(listener, 0, 0);
				no_delay(next);
				kind[next] = 0;
				watch(set, next, EPOLLIN);
				continue;
			}
			long got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
			if (got == 0) close(fd);
			if (got <= 0) continue;
			if (!kind[fd]) kind[fd] = bytes[0];
			if (kind[fd] == 'e') send(fd, bytes, got, 0);
		}
	}
}

/* The sockmap: each socket's cookie leads to the socket its bytes go out of. */
static int map;

static int bpf(int command, union bpf_attr *attributes) {
	return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static void load_program(void) {
	union bpf_attr of_map = {.map_type = BPF_MAP_TYPE_SOCKHASH, .key_size = 8, .value_size = 4, .max_entries = SOCKETS};
	if ((map = bpf(BPF_MAP_CREATE, &of_map)) < 0) ended("BPF_MAP_CREATE");
	struct bpf_insn program[] = {
		{BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0},
		{BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_socket_cookie},
		{BPF_STX | BPF_MEM | BPF_DW, 10, 0, -8, 0},
		{BPF_ALU64 | BPF_MOV | BPF_X, 1, 6, 0, 0},
		{BPF_LD | BPF_DW | BPF_IMM, 2, BPF_PSEUDO_MAP_FD, 0, map},
		{0, 0, 0, 0, 0},
		{BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0},
		{BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -8},
		{BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, 0},
		{BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sk_redirect_hash},
		{BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
	};
	union bpf_attr of_program = {.prog_type = BPF_PROG_TYPE_SK_SKB, .expected_attach_type = BPF_SK_SKB_VERDICT};
	of_program.insns = (unsigned long)program;
	of_program.insn_cnt = sizeof program / sizeof *program;
	of_program.license = (unsigned long)"Apache-2.0";
	int loaded = bpf(BPF_PROG_LOAD, &of_program);
	if (loaded < 0) ended("BPF_PROG_LOAD");
	union bpf_attr attach = {.target_fd = map, .attach_bpf_fd = loaded, .attach_type = BPF_SK_SKB_VERDICT};
	if (bpf(BPF_PROG_ATTACH, &attach)) ended("BPF_PROG_ATTACH");
}

static void redirect(int from, int to) {
	unsigned long long cookie;
	socklen_t length = sizeof cookie;
	if (getsockopt(from, SOL_SOCKET, SO_COOKIE, &cookie, &length)) ended("SO_COOKIE");
	union bpf_attr entry = {.map_fd = map, .key = (unsigned long)&cookie, .value = (unsigned long)&to};
	if (bpf(BPF_MAP_UPDATE_ELEM, &entry)) ended("BPF_MAP_UPDATE_ELEM");
}

static long copied(int from, int to) {
	long got = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
	for (long sent = 0, now; got > 0 && sent < got; sent += now)
		if ((now = send(to, bytes + sent, got - sent, MSG_NOSIGNAL)) <= 0) return 0;
	return got;
}

static long spliced(int from, int to, int *pipe) {
	long got = splice(from, 0, pipe[1], 0, PIPE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	for (long sent = 0, now; got > 0 && sent < got; sent += now)
		if ((now = splice(pipe[0], 0, to, 0, got - sent, SPLICE_F_MOVE)) <= 0) return 0;
	return got;
}

static void relay(const char *how, const char *port, const char *destination) {
	static int other[SOCKETS], pipes[SOCKETS][2];
	struct epoll_event events[EVENTS];
	int in_kernel = !strcmp(how, "sockmap"), by_pipe = !strcmp(how, "splice");
	int set = epoll_create1(0), listener = listening(port);
	if (in_kernel) load_program();
	for (watch(set, listener, EPOLLIN);;) {
		for (int i = epoll_wait(set, events, EVENTS, -1); i-- > 0;) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				int pair[2] = {accept(listener, 0, 0), connected(destination)};
				no_delay(pair[0]);
				for (int side = 0; side < 2; side++) {
					int one = pair[side];
					other[one] = pair[!side];
					if (in_kernel) redirect(one, other[one]);
					if (by_pipe && (pipe2(pipes[one], O_NONBLOCK) || fcntl(pipes[one][0], F_SETPIPE_SZ, PIPE) < 0)) ended("pipe");
					watch(set, one, in_kernel ? EPOLLRDHUP : EPOLLIN);
				}
				continue;
			}
			int to = other[fd];
			long moved = !to || in_kernel ? 0 : by_pipe ? spliced(fd, to, pipes[fd]) : copied(fd, to);
			if (!to || moved > 0 || (moved < 0 && errno == EAGAIN)) continue;
			for (int side = 0; by_pipe && side < 2; side++) close(pipes[fd][side]), close(pipes[to][side]);
			other[fd] = other[to] = 0;
			close(fd), close(to);
		}
	}
}

static double seconds(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Processor time of the whole machine: what the kernel does for a socket is nobody's. */
static double busy(void) {
	long user, nice, kernel, idle, waiting, irq, softirq;
	FILE *stat = fopen("/proc/stat", "r");
	if (!stat || fscanf(stat, "cpu %ld %ld %ld %ld %ld %ld %ld", &user, &nice, &kernel, &idle, &waiting, &irq, &softirq) != 7) ended("/proc/stat");
	fclose(stat);
	return (user + nice + kernel + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
}

static int by_size(const void *left, const void *right) {
	float a = *(const float *)left, b = *(const float *)right;
	return (a > b) - (a < b);
}

static void load(const char *port, int echo, int connections, double length) {
	static double sent_at[SOCKETS];
	static float took[SAMPLES];
	struct epoll_event events[EVENTS];
	long calls = 0, moved = 0;
	int set = epoll_create1(0);
	memset(bytes, echo ? 'e' : 's', sizeof bytes);
	int *all = calloc(connections, sizeof *all);
	for (int i = 0; i < connections; i++) watch(set, all[i] = connected(port), echo ? EPOLLIN : EPOLLOUT);
	/* What arrives before a socket is in the map is not redirected until more arrives: begin when all surely are. */
	usleep(300000);
	double begun = seconds(), spent = busy();
	for (int i = 0; echo && i < connections; i++) {
		sent_at[all[i]] = seconds();
		send(all[i], bytes, REQUEST, 0);
	}
	while (seconds() - begun < length) {
		for (int i = epoll_wait(set, events, EVENTS, 100); i-- > 0;) {
			int fd = events[i].data.fd;
			long now = echo ? recv(fd, bytes, REQUEST, MSG_DONTWAIT) : send(fd, bytes, sizeof bytes, MSG_DONTWAIT);
			if (now <= 0) continue;
			moved += now;
			if (!echo) continue;
			if (calls < SAMPLES) took[calls++] = seconds() - sent_at[fd];
			sent_at[fd] = seconds();
			send(fd, bytes, REQUEST, 0);
		}
	}
	begun = seconds() - begun, spent = busy() - spent;
	if (!echo) {
		printf("%6.2f GB/s %6.3f s/GB\n", moved / begun / 1e9, spent / (moved / 1e9));
		return;
	}
	if (!calls) ended("no call was answered");
	qsort(took, calls, sizeof *took, by_size);
	printf("%7.0f requests/s %5.1f us of CPU each, p50 %4.0f us, p99 %4.0f us\n", calls / begun, spent / calls * 1e6,
	       took[calls / 2] * 1e6, took[calls * 99 / 100] * 1e6);
}

int main(int count, char **words) {
	if (count == 3 && !strcmp(words[1], "serve")) serve(words[2]);
	if (count == 5 && !strcmp(words[1], "relay")) relay(words[2], words[3], words[4]);
	if (count == 6 && !strcmp(words[1], "load")) {
		load(words[2], !strcmp(words[3], "echo"), atoi(words[4]), atof(words[5]));
		return 0;
	}
	fprintf(stderr, "what it takes is at the top of trial.c\n");
	return 2;
}
