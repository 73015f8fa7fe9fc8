/*
 * test_origin.c
 *
 * How many requests are started on how many connections.  A small server stands for
 * libcurl: a request goes where there is room, and opens a connection where there is none.
 */
#include <stdlib.h>

#include "origin.h"
#include "tap.h"

#define MAX_REQUESTS 5000

/* A server that takes so many requests at once on a connection. */
typedef struct Server
{
	int			streams;
	int			n_connections;
	int			used[MAX_REQUESTS];		/* by connection */
	int			most_at_once;
} Server;

static Origins origins;
static Server server;
static OriginShare shares[MAX_REQUESTS];
static int	port_of[MAX_REQUESTS];

static Origin *
make_origin(const char *name, bool https)
{
	HttpTarget	target = {.https = https};

	strcpy(target.origin, name);
	return origins_find(&origins, &target);
}

static void
add_jobs(Origin *origin, int n)
{
	for (int i = 0; i < n; i++)
	{
		Job		   *job = calloc(1, sizeof(Job) + 1);

		job->origin = origin;
		origins_push(&origins, job, false);
	}
}

/* What libcurl does with a request: the place of its connection. */
static int
connect_request(Origin *origin)
{
	int			room = server.streams < ORIGIN_MAX_STREAMS ? server.streams : ORIGIN_MAX_STREAMS;
	int			c = 0;

	while (c < server.n_connections && server.used[c] >= room)
		c++;
	if (c == server.n_connections)
	{
		origin_opens(origin);
		server.n_connections++;
	}
	server.used[c]++;
	return c;
}

/* Starts what may start, sends it, and ends it: waves until no job is left; their number. */
static int
run(Origin *origin, int in_flight)
{
	int			waves = 0;

	while (origin->n_jobs > 0 && waves < 1000)
	{
		int			n = 0;
		int			sent = 0;

		do
		{
			sent = n;
			while (n < in_flight && origin_may_start(origin, 0, in_flight - n, 1))
			{
				free(origin_pop(origin));
				origin_start(origin, &shares[n++], 1);
			}
			for (int i = sent; i < n; i++)
			{
				port_of[i] = connect_request(origin);
				origin_sends(origin, &shares[i], port_of[i] + 1);
			}
		} while (n > sent);
		server.most_at_once = n > server.most_at_once ? n : server.most_at_once;
		for (int i = 0; i < n; i++)
		{
			server.used[port_of[i]]--;
			origin_ends(origin, &shares[i]);
		}
		waves++;
	}
	return waves;
}

static void
start_server(int streams)
{
	memset(&server, 0, sizeof(server));
	server.streams = streams;
	origins_free(&origins);
	origins_init(&origins, true);
}

/* Runs so many requests against a server and returns its origin. */
static Origin *
scenario(const char *name, int streams, int requests, int in_flight)
{
	Origin	   *origin;

	start_server(streams);
	origin = make_origin(name, true);
	origin->resolved_us = 1;
	/* so slow that any number of requests is of use */
	origin->fastest_us = 1000000;
	add_jobs(origin, requests);
	run(origin, in_flight);
	printf("# %s: %d connections, at most %d at once, %d streams\n", name, server.n_connections,
		   server.most_at_once, origin->max_streams);
	return origin;
}

static void
test_connections(void)
{
	Origin	   *origin = scenario("https://a:443", 128, 1000, 1000);

	tap_ok(server.n_connections == 10, "1,000 at once take 10 connections of 100");
	tap_ok(server.most_at_once == 1000, "and all are in flight");
	tap_ok(origin->sharing == SHARING_STREAMS, "that they are shared shows");
	tap_ok(origin->in_flight == 0 && origin->opening == 0 && origin->unsent == 0, "and nothing is left over");

	origin = scenario("https://b:443", 32, 1000, 1000);
	tap_ok(origin->max_streams == 32, "a lower limit of the server is learned");
	tap_ok(server.n_connections < 100, "before there are many connections");
	tap_ok(server.most_at_once == 1000, "and nothing is held up");

	origin = scenario("https://c:443", 1, 1000, 200);
	tap_ok(origin->sharing == SHARING_NONE, "that nothing is shared shows with the second");
	tap_ok(server.n_connections == 200, "then each request has its connection");

	scenario("https://d:443", 128, 64, 64);
	tap_ok(server.n_connections == 1, "a few go on one");
	scenario("https://e:443", 100, 1, 1);
	tap_ok(server.n_connections == 1, "and so does one alone");
}

/* What was learned too low, because a server closed a connection early, is corrected. */
static void
test_recovery(void)
{
	Origin	   *origin = scenario("https://a:443", 128, 300, 300);

	origin->max_streams = 3;
	add_jobs(origin, 3000);
	run(origin, 1000);
	tap_ok(origin->max_streams == ORIGIN_MAX_STREAMS, "a limit that was too low is given up");
	for (int port = 1; port <= server.n_connections; port++)
		origin_closes(origin, port);
	tap_ok(origin->n_connections == 0, "closed connections are forgotten");
	memset(&server, 0, sizeof(server));
	server.streams = 128;
	add_jobs(origin, 1000);
	run(origin, 1000);
	tap_ok(server.n_connections == 10, "and others are opened in their place");
}

static void
test_unknown(void)
{
	Origin	   *origin;
	OriginShare first,
				second;

	start_server(100);
	origin = make_origin("https://slow:443", true);
	origin->resolved_us = 1;
	add_jobs(origin, 10);
	origin_start(origin, &first, 1);
	tap_ok(origin_may_start(origin, 0, 10, 1), "a second request shows what connections can carry");
	origin_start(origin, &second, 1);
	tap_ok(!origin_may_start(origin, 0, 10, 1), "the others wait for that");
	tap_ok(origin_may_start(origin, 0, 10, 2500000), "but not for ever");
	origin_ends(origin, &first);
	origin_ends(origin, &second);
	tap_ok(origin->in_flight == 0 && origin->unsent == 0, "failures leave nothing behind");

	origin = make_origin("http://plain:80", false);
	tap_ok(origin->sharing == SHARING_NONE, "without TLS there is nothing to find out");
	origins_free(&origins);
	origins_init(&origins, false);
	tap_ok(make_origin("https://old:443", true)->sharing == SHARING_NONE, "nor without HTTP/2");
}

/* What a connection refuses libcurl sends on another: it counts there, and there alone. */
static void
test_refused(void)
{
	Origin	   *origin;
	OriginShare share;

	start_server(100);
	origin = make_origin("https://refusing:443", true);
	origin_start(origin, &share, 1);
	origin_sends(origin, &share, 1);
	origin_sends(origin, &share, 2);
	tap_ok(origin->connections[0].streams == 0 && origin->connections[1].streams == 1,
		   "a request that is sent again has left its first connection");
	origin_ends(origin, &share);
	tap_ok(origin->connections[1].streams == 0 && origin->unsent == 0 && origin->in_flight == 0,
		   "and leaves the second when it ends");
}

/* More requests at once than an answer takes time for are of no use. */
static void
test_latency(void)
{
	Origin	   *origin;
	OriginShare share;
	int			n = 0;

	start_server(100);
	origin = make_origin("http://fast:80", false);
	origin->resolved_us = 1;
	add_jobs(origin, 5000);
	for (; origin_may_start(origin, 0, 5000, 1); n++)
		origin_start(origin, &share, 1);
	tap_ok(n == 64, "a few at first");
	origin->heard_us = 5000;
	tap_ok(!origin_may_start(origin, 0, 5000, 1), "also where what is in flight was started later in a turn");
	origin->heard_us = 1;
	tap_ok(origin_may_start(origin, 0, 5000, 2001), "twice as many after a millisecond");
	for (; origin_may_start(origin, 0, 5000, 5001); n++)
		origin_start(origin, &share, 5001);
	tap_ok(n == 64 * 32, "and so on");
	tap_ok(origin_patience(origin, 5001) == 1, "which is soon");
	origin_answers(origin, 50000, 51000);
	tap_ok(!origin_may_start(origin, 0, 5000, 51000), "an answer after 50 ms: 2,000 will do");
	while (origin->in_flight > 100)
		origin_ends(origin, &share);
	for (int i = 0; i < 2000; i++)
		origin_answers(origin, 500, 60000);
	tap_ok(!origin_may_start(origin, 0, 5000, 60000), "answers after 0.5 ms: 64 will do");
	tap_ok(origin_may_start(origin, 0, 5000, 160000), "unless none comes any more");
	for (int i = 0; i < 2000; i++)
		origin_answers(origin, 1000000, 1060000);
	tap_ok(origin_may_start(origin, 0, 5000, 1060000), "answers after a second: as many as there may be");
}

/* Those that wait have their turns, whichever was first. */
static void
test_turns(void)
{
	Origin	   *a;
	Origin	   *b;

	start_server(100);
	a = make_origin("https://a:443", true);
	b = make_origin("https://b:443", true);
	tap_ok(a != b && make_origin("https://a:443", true) == a, "an origin is found again");
	add_jobs(a, 2);
	add_jobs(b, 1);
	tap_ok(origins.n_waiting == 2 && origins.first_waiting == a, "both wait");
	free(origin_pop(a));
	origins_rotate(&origins);
	tap_ok(origins.first_waiting == b, "the other is next");
	free(origin_pop(b));
	origins_rotate(&origins);
	tap_ok(origins.n_waiting == 1 && origins.first_waiting == a, "without a job it leaves");
	free(origin_pop(a));
	origins_rotate(&origins);
	tap_ok(origins.n_waiting == 0 && origins.first_waiting == NULL, "and the last one too");
	add_jobs(b, 1);
	tap_ok(origins.n_waiting == 1 && origins.first_waiting == b, "a new job brings it back");
	origins_free(&origins);
}

int
main(void)
{
	test_connections();
	test_recovery();
	test_unknown();
	test_refused();
	test_latency();
	test_turns();
	return tap_end();
}
