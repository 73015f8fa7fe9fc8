/*
 * answers.c
 *
 * A provider that says when: it notes when connections and requests come, and puts the
 * moment at which it sends an answer into the answer, as freeMargin.  All of that is
 * microseconds of the clock on the wall, which the server's clock_timestamp() reads too.
 *
 *	answers PORT LATENCY_MS
 *
 * It listens at 127.0.0.1 and 127.0.0.2, two origins that share no connection.
 * Writes "connection SECONDS" or "request SECONDS PATH" to its output for each, where the
 * path holds "noted".  It closes connections where the path holds "close", and keeps them
 * otherwise.  The balance of accounts whose number ends in 0 changes with each answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 60000
#define REQUEST_MAX 4096

/* A connection, by its descriptor. */
typedef struct Connection
{
	unsigned	number;			/* how many this descriptor has been */
	double		accepted_s;
	size_t		length;
	char		request[REQUEST_MAX];
} Connection;

/* An answer that waits; the latency of all is the same, so they are due in their order. */
typedef struct Answer
{
	double		due_s;
	int			fd;
	unsigned	number;
	bool		close;
	char		account[128];
} Answer;

static Connection *connections[MAX_FD];
static Answer *answers;
static size_t n_answers;		/* a power of two */
static size_t first;
static size_t last;
static double latency_s;
static int	epoll_fd;

static void
die(const char *what)
{
	fprintf(stderr, "answers: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
clock_s(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static int
listen_on(int host, int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK + host)
	};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, 4096) != 0)
		die("port");
	return fd;
}

static void
watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		die("epoll");
}

static void
accept_all(int listener)
{
	int			on = 1;
	int			fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
	{
		double		now = clock_s(CLOCK_REALTIME);

		if (fd >= MAX_FD)
			die("too many connections");
		if (connections[fd] == NULL)
			connections[fd] = calloc(1, sizeof(Connection));
		connections[fd]->number++;
		connections[fd]->length = 0;
		connections[fd]->accepted_s = now;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		watch(fd);
	}
}

static void
leave(int fd)
{
	connections[fd]->number++;
	close(fd);
}

/* Puts the answer to a request behind the others. */
static void
queue_answer(int fd, const char *path)
{
	const char *account = strrchr(path, '/');
	Answer	   *answer;

	if (last - first == n_answers)
	{
		errno = ENOBUFS;
		die("too many requests");
	}
	answer = &answers[last++ % n_answers];
	answer->due_s = clock_s(CLOCK_MONOTONIC) + latency_s;
	answer->fd = fd;
	answer->number = connections[fd]->number;
	answer->close = strstr(path, "close") != NULL;
	snprintf(answer->account, sizeof(answer->account), "%s", account != NULL ? account + 1 : "");
}

/* Reads what has come; a request has no body. */
static void
read_request(int fd)
{
	Connection *c = connections[fd];
	ssize_t		n = recv(fd, c->request + c->length, REQUEST_MAX - 1 - c->length, 0);
	double		now = clock_s(CLOCK_REALTIME);
	char	   *rest;
	char	   *path;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
	{
		leave(fd);
		return;
	}
	c->length += n;
	c->request[c->length] = '\0';
	if (strstr(c->request, "\r\n\r\n") == NULL)
		return;
	(void) strtok_r(c->request, " ", &rest);
	path = strtok_r(NULL, " ", &rest);
	if (path == NULL)
	{
		leave(fd);
		return;
	}
	if (strstr(path, "noted") != NULL)
	{
		if (c->accepted_s > 0)
			printf("connection %.6f\n", c->accepted_s);
		printf("request %.6f %s\n", now, path);
		fflush(stdout);
	}
	c->accepted_s = 0;
	c->length = 0;
	queue_answer(fd, path);
}

static void
send_answer(const Answer *answer)
{
	static unsigned count;
	char		body[512];
	char		text[1024];
	int			n;
	bool		changes = answer->account[0] != '\0' && answer->account[strlen(answer->account) - 1] == '0';

	if (connections[answer->fd]->number != answer->number)
		return;
	n = snprintf(body, sizeof(body),
				 "{\"login\":\"%s\",\"balance\":%u.25,\"equity\":10012.75,\"credit\":0,\"margin\":120.5,"
				 "\"freeMargin\":%.6f,\"marginLevel\":8309.34,\"trades\":3,\"currency\":\"USD\"}",
				 answer->account, 10000 + (changes ? count++ % 100 : 0), clock_s(CLOCK_REALTIME));
	n = snprintf(text, sizeof(text),
				 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s",
				 n, answer->close ? "Connection: close\r\n" : "", body);
	if (send(answer->fd, text, n, MSG_NOSIGNAL) != n || answer->close)
		leave(answer->fd);
}

/* Sends what is due; how long until there is more, or NULL where nothing waits. */
static const struct timespec *
send_due(void)
{
	static struct timespec rest;
	double		now = clock_s(CLOCK_MONOTONIC);

	while (first != last && answers[first % n_answers].due_s <= now)
		send_answer(&answers[first++ % n_answers]);
	if (first == last)
		return NULL;
	now = answers[first % n_answers].due_s - now;
	rest.tv_sec = (time_t) now;
	rest.tv_nsec = (long) ((now - rest.tv_sec) * 1e9);
	return &rest;
}

int
main(int argc, char **argv)
{
	struct rlimit files;
	struct epoll_event events[256];
	int			listeners[2];

	if (argc != 3)
		return 1;
	latency_s = atof(argv[2]) / 1000;
	n_answers = 1 << 16;
	answers = calloc(n_answers, sizeof(Answer));
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < 2; i++)
		watch(listeners[i] = listen_on(i, atoi(argv[1])));
	for (;;)
	{
		int			n = epoll_pwait2(epoll_fd, events, 256, send_due(), NULL);

		for (int i = 0; i < n; i++)
		{
			int			fd = events[i].data.fd;

			if (fd == listeners[0] || fd == listeners[1])
				accept_all(fd);
			else
				read_request(fd);
		}
	}
}
