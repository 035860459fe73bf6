/*
 * A small world for one process: preloaded, it stands in for libc's clocks, waits and UDP sockets, so that the real
 * `driftless run` lives thousands of seconds in one. crates/driftless/tests/preload.rs builds and drives it.
 *
 *   truth  the reference's time; one NTP server serves it, under whatever address it is asked
 *   raw    the machine's counter: runs at 1 + drift against truth, and drift wanders
 *   wall   the kernel's clock: runs at tick + frequency against the counter, and can be set
 *
 * Time passes in waits, and 50 ns at each look at a clock: whoever spins on a clock grows old as well. Nothing reaches the real clock:
 * each symbol of libc that sets one ends here, and a raw system call that would aborts. What is not replaced fails on the descriptors
 * handed out here, which are of /dev/null.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

#define EPOCH 1767225600 /* 2026-01-01, where truth starts */
#define UPTIME 100       /* what the counter says then */
#define LOOK 50e-9       /* what reading a clock takes */
#define NTP_UNIX 2208988800u
#define PACKET 48
#define PENDING_MAX 64
#define FD_MAX 1024
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Seconds since the start; a double keeps picoseconds over a day. */
static double truth, raw, mono, wall, next_row = 1;
static long sent, wakes, settings, backward;
static int has_ended, is_bare;
static FILE *csv;

static long tick = 10000, frequency, maxerror, esterror;
static int status = STA_UNSYNC, tai;

static struct { int is_udp, is_stamped; struct sockaddr_in peer; } sockets[FD_MAX];
static struct { int fd; double due; unsigned char bytes[PACKET]; } pending[PENDING_MAX];

/* ---- what the environment says, and randomness */

static double end, drift, wander, path_floor, jitter, loss, outage_from, outage_to, pause_at, pause_for;
static uint64_t random_state;

static double setting(const char *name, double otherwise)
{
	const char *text = getenv(name);
	return text ? atof(text) : otherwise;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WORLD_CSV"); /* a row each second */
	csv = path ? fopen(path, "w") : NULL;
	if (!csv) {
		fputs("world: WORLD_CSV names no file that can be written\n", stderr);
		abort();
	}
	fputs("truth,error,rate_ppm,sent,wakes,settings,backward\n", csv);
	random_state = setting("WORLD_SEED", 1);
	end = setting("WORLD_SECONDS", 1000); /* then SIGTERM */
	wall = setting("WORLD_OFFSET", 0.05);
	drift = setting("WORLD_DRIFT", 0) * 1e-6;     /* ppm */
	wander = setting("WORLD_WANDER", 1) * 1e-9;   /* ppb a root of a second */
	path_floor = setting("WORLD_FLOOR", 100e-6);  /* one way, s */
	jitter = setting("WORLD_JITTER", 100e-6);     /* mean of an exponential on top */
	loss = setting("WORLD_LOSS", 0);              /* probability */
	outage_from = setting("WORLD_OUTAGE_FROM", INFINITY); /* the server is silent */
	outage_to = setting("WORLD_OUTAGE_TO", INFINITY);
	pause_at = setting("WORLD_PAUSE_AT", INFINITY); /* the machine is frozen */
	pause_for = setting("WORLD_PAUSE_FOR", 0);
	/* As other simulators are: no socket but a bare one, no stamps, and each foreign descriptor claims to be readable. */
	is_bare = setting("WORLD_BARE", 0);
}

static uint64_t random_bits(void) /* splitmix64 */
{
	uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

static double uniform(void) { return ((random_bits() >> 11) + 0.5) * 0x1p-53; }
static double exponential(void) { return -log(uniform()); }
static double normal(void) { return sqrt(2 * exponential()) * cos(2 * M_PI * uniform()); }

ssize_t getrandom(void *bytes, size_t length, unsigned flags)
{
	(void)flags;
	for (size_t i = 0; i < length; i++)
		((unsigned char *)bytes)[i] = random_bits();
	return length;
}

/* ---- time passes */

static double kernel_rate(void) { return tick / 10000.0 + frequency / 65536e6; }

static void row(void)
{
	next_row = floor(truth) + 1;
	drift += wander * normal();
	fprintf(csv, "%.0f,%.9f,%.6f,%ld,%ld,%ld,%ld\n", truth, wall - truth, ((1 + drift) * kernel_rate() - 1) * 1e6, sent, wakes,
		settings, backward);
	if (truth >= end && !has_ended) {
		has_ended = 1;
		raise(SIGTERM);
	}
}

static void pass(double seconds)
{
	while (seconds > 0) {
		double step = fmin(seconds, next_row - truth), counted = step * (1 + drift);
		raw += counted;
		mono += counted * kernel_rate();
		wall += counted * kernel_rate();
		truth += step;
		seconds -= step;
		if (truth >= pause_at) { /* a wait ends with it: early, which a real one would not */
			pause_at = INFINITY;
			truth += pause_for;
			seconds = 0;
		}
		if (truth >= next_row)
			row();
	}
}

/* The whole seconds apart: 2^31 of them and nanoseconds together are more than a double holds. */
static int timespec_of(time_t whole, double seconds, struct timespec *time)
{
	time->tv_sec = whole + (time_t)floor(seconds);
	time->tv_nsec = (seconds - floor(seconds)) * 1e9;
	return 0;
}

int clock_gettime(clockid_t id, struct timespec *time)
{
	pass(LOOK);
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
		return timespec_of(EPOCH, wall, time);
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME: /* a pause is not seen by the machine */
		return timespec_of(UPTIME, mono, time);
	case CLOCK_MONOTONIC_RAW:
		return timespec_of(UPTIME, raw, time);
	}
	errno = EINVAL;
	return -1;
}

time_t time(time_t *out)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return out ? *out = now.tv_sec : now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	*out = (struct timeval){ now.tv_sec, now.tv_nsec / 1000 };
	return 0;
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *time, struct timespec *left)
{
	struct timespec now = { 0, 0 };
	(void)left;
	if (flags & TIMER_ABSTIME)
		clock_gettime(id, &now);
	pass(time->tv_sec - now.tv_sec + (time->tv_nsec - now.tv_nsec) * 1e-9);
	return 0;
}

int nanosleep(const struct timespec *time, struct timespec *left) { return clock_nanosleep(CLOCK_MONOTONIC, 0, time, left); }

/* ---- the clock is set: as kernel/time/ntp.c and timekeeping.c do it, as far as a daemon needs it */

static int step(double by)
{
	settings++;
	backward += by < 0;
	wall += by;
	status |= STA_UNSYNC;
	return 0;
}

static void adjust(const struct timex *t)
{
	if (t->modes & ADJ_SETOFFSET)
		step(t->time.tv_sec + t->time.tv_usec * (t->modes & ADJ_NANO ? 1e-9 : 1e-6));
	if (t->modes & ADJ_STATUS)
		status = t->status & 0xff;
	if (t->modes & ADJ_TICK)
		tick = t->tick;
	if (t->modes & ADJ_FREQUENCY)
		frequency = t->freq > 32768000 ? 32768000 : t->freq < -32768000 ? -32768000 : t->freq;
	if (t->modes & ADJ_MAXERROR)
		maxerror = t->maxerror;
	if (t->modes & ADJ_ESTERROR)
		esterror = t->esterror;
	if (t->modes & ADJ_TAI)
		tai = t->constant;
}

int clock_adjtime(clockid_t id, struct timex *t)
{
	if (id != CLOCK_REALTIME || (t->modes & ADJ_TICK && (t->tick < 9000 || t->tick > 11000))) {
		errno = EINVAL;
		return -1;
	}
	settings += t->modes != 0;
	if ((t->modes & ADJ_OFFSET_SINGLESHOT) != ADJ_OFFSET_SINGLESHOT)
		adjust(t);
	*t = (struct timex){ .tick = tick, .freq = frequency, .status = status, .maxerror = maxerror, .esterror = esterror, .tai = tai };
	return status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}

int adjtimex(struct timex *t) { return clock_adjtime(CLOCK_REALTIME, t); }
int __adjtimex(struct timex *t) { return clock_adjtime(CLOCK_REALTIME, t); }
int ntp_adjtime(struct timex *t) { return clock_adjtime(CLOCK_REALTIME, t); }
int stime(const time_t *to) { return step(*to - EPOCH - wall); }

int clock_settime(clockid_t id, const struct timespec *to)
{
	errno = EINVAL;
	return id == CLOCK_REALTIME ? step(to->tv_sec - EPOCH - wall + to->tv_nsec * 1e-9) : -1;
}

int settimeofday(const struct timeval *to, const struct timezone *zone)
{
	(void)zone;
	return to ? step(to->tv_sec - EPOCH - wall + to->tv_usec * 1e-6) : 0;
}

int adjtime(const struct timeval *by, struct timeval *left)
{
	(void)by, (void)left;
	errno = EPERM;
	return -1;
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;
	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_clock_settime || number == SYS_settimeofday || number == SYS_adjtimex || number == SYS_clock_adjtime)
		abort();
	return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- the network: one server behind a jittery path */

static int is_udp(int fd) { return fd >= 0 && fd < FD_MAX && sockets[fd].is_udp; }

/* The packet on its way to `fd` that comes first; -1 where there is none. */
static int earliest(int fd)
{
	int found = -1;
	for (int i = 0; i < PENDING_MAX; i++)
		if (pending[i].due && pending[i].fd == fd && (found < 0 || pending[i].due < pending[found].due))
			found = i;
	return found;
}

static void put32(unsigned char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = value >> (24 - 8 * i);
}

/* RFC 5905, figure 8: stratum 1, received and sent in the same instant. */
static void answer(unsigned char *reply, const unsigned char *request, double at)
{
	memset(reply, 0, PACKET);
	reply[0] = (request[0] & 0x38) | 4;
	reply[1] = 1;
	reply[2] = request[2];
	reply[3] = (unsigned char)-25;
	memcpy(reply + 12, "WRLD", 4);
	memcpy(reply + 24, request + 40, 8);
	for (int stamp = 16; stamp <= 40; stamp += stamp == 16 ? 16 : 8) {
		put32(reply + stamp, EPOCH + NTP_UNIX + (uint32_t)at);
		put32(reply + stamp + 4, (at - floor(at)) * 0x1p32);
	}
}

/* The descriptor is a real one, so that fcntl and ioctl work and its number is nobody else's. */
int socket(int family, int kind, int protocol)
{
	if (is_bare && kind != SOCK_DGRAM) {
		errno = EINVAL;
		return -1;
	}
	if (family == AF_UNIX)
		return NEXT(socket)(family, kind, protocol);
	int fd = family == AF_INET && (kind & 0xf) == SOCK_DGRAM ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0 || fd >= FD_MAX) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	memset(&sockets[fd], 0, sizeof sockets[fd]);
	sockets[fd].is_udp = 1;
	return fd;
}

int close(int fd)
{
	if (is_udp(fd))
		sockets[fd].is_udp = 0;
	for (int i = earliest(fd); i >= 0; i = earliest(fd))
		pending[i].due = 0;
	return NEXT(close)(fd);
}

int bind(int fd, const struct sockaddr *at, socklen_t length) { return is_udp(fd) ? 0 : NEXT(bind)(fd, at, length); }

int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	if (!is_udp(fd))
		return NEXT(connect)(fd, to, length);
	memcpy(&sockets[fd].peer, to, sizeof sockets[fd].peer);
	return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	if (!is_udp(fd))
		return NEXT(setsockopt)(fd, level, name, value, length);
	if (level == SOL_SOCKET && name == SO_TIMESTAMPNS && !is_bare)
		sockets[fd].is_stamped = *(const int *)value;
	return 0;
}

ssize_t send(int fd, const void *data, size_t length, int flags)
{
	if (!is_udp(fd))
		return NEXT(send)(fd, data, length, flags);
	double there = truth + path_floor + jitter * exponential(), back = there + path_floor + jitter * exponential();
	int is_lost = uniform() < loss || (there >= outage_from && there < outage_to) || length < PACKET;
	sent++;
	for (int i = 0; i < PENDING_MAX && !is_lost; i++) {
		if (pending[i].due)
			continue;
		pending[i].fd = fd;
		pending[i].due = back;
		answer(pending[i].bytes, data, there);
		break;
	}
	return length;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	if (!is_udp(fd))
		return NEXT(recvmsg)(fd, message, flags);
	int packet = flags & MSG_ERRQUEUE ? -1 : earliest(fd);
	if (packet < 0 || pending[packet].due > truth) {
		errno = EAGAIN;
		return -1;
	}
	size_t length = message->msg_iov->iov_len < PACKET ? message->msg_iov->iov_len : PACKET;
	memcpy(message->msg_iov->iov_base, pending[packet].bytes, length);
	pending[packet].due = 0;
	if (message->msg_name && message->msg_namelen >= sizeof sockets[fd].peer) {
		memcpy(message->msg_name, &sockets[fd].peer, sizeof sockets[fd].peer);
		message->msg_namelen = sizeof sockets[fd].peer;
	}
	struct cmsghdr *stamp = CMSG_FIRSTHDR(message);
	int has_room = stamp && message->msg_controllen >= CMSG_SPACE(sizeof(struct timespec));
	message->msg_controllen = 0;
	if (sockets[fd].is_stamped && has_room) {
		stamp->cmsg_len = CMSG_LEN(sizeof(struct timespec));
		stamp->cmsg_level = SOL_SOCKET;
		stamp->cmsg_type = SCM_TIMESTAMPNS;
		timespec_of(EPOCH, wall, (struct timespec *)CMSG_DATA(stamp));
		message->msg_controllen = CMSG_SPACE(sizeof(struct timespec));
	}
	return length;
}

int poll(struct pollfd *set, nfds_t count, int timeout)
{
	struct pollfd real[count + 1];
	double until = timeout < 0 ? INFINITY : truth + timeout / 1e3 / (1 + drift) / kernel_rate();
	int ready = 0, has_foreign = 0;
	for (nfds_t i = 0; i < count; i++) {
		int packet = is_udp(set[i].fd) ? earliest(set[i].fd) : -1;
		real[i] = (struct pollfd){ is_udp(set[i].fd) ? -1 : set[i].fd, set[i].events, 0 };
		has_foreign |= !is_udp(set[i].fd);
		until = packet < 0 ? until : fmin(until, pending[packet].due);
	}
	wakes++;
	/* What the other descriptors stand for happens in no time of this world. */
	if (NEXT(poll)(real, count, 0) <= 0 && !(is_bare && has_foreign))
		pass(fmin(until, fmax(end, truth + 1)) - truth);
	if (has_ended == 1) {
		has_ended = 2;
		errno = EINTR;
		return -1;
	}
	for (nfds_t i = 0; i < count; i++) {
		int packet = is_udp(set[i].fd) ? earliest(set[i].fd) : -1;
		int is_ready = is_udp(set[i].fd) ? packet >= 0 && pending[packet].due <= truth : is_bare;
		set[i].revents = is_ready ? POLLIN : real[i].revents;
		ready += set[i].revents != 0;
	}
	return ready;
}
