# HTTP/2: few connections carry many requests, as many as the server takes on each;
# a setting goes back to HTTP/1.1.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use IO::Socket::INET;
use POSIX qw();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use WfxTest;

my $ACCOUNTS = 400;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $nginx;

system_or_bail('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
	'-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', "$dir/key.pem", '-out', "$dir/cert.pem");

my $test = WfxTest->start(conf => "wfx_mt4.ca_file = '$dir/cert.pem'\nwfx_mt4.request_timeout = '60s'\nwfx_mt4.connect_timeout = '30s'\n");
$test->link_many($ACCOUNTS, "n || '~delay-500'", 'token-1', "https://127.0.0.1:$port");
my $behind = $test->provider->endpoint;


# Starts nginx, in front of the provider, with that many streams for each connection, 0 for no HTTP/2.
sub start_nginx
{
	my ($streams) = @_;
	my $http2 = $streams ? 'http2' : '';
	my $limit = $streams ? "http2_max_concurrent_streams $streams;" : '';

	stop_nginx();
	unlink "$dir/nginx.conf", "$dir/access.log";
	append_to_file("$dir/nginx.conf", <<"END");
daemon off;
worker_processes 1;
pid $dir/nginx.pid;
events { worker_connections 2000; }
http {
	log_format short '\$connection \$server_protocol';
	access_log $dir/access.log short;
	client_body_temp_path $dir/body;
	proxy_temp_path $dir/proxy;
	fastcgi_temp_path $dir/fastcgi;
	uwsgi_temp_path $dir/uwsgi;
	scgi_temp_path $dir/scgi;
	server {
		listen 127.0.0.1:$port ssl $http2 backlog=1000;
		ssl_certificate $dir/cert.pem;
		ssl_certificate_key $dir/key.pem;
		keepalive_requests 100000;
		proxy_http_version 1.1;
		$limit
		location / { proxy_pass $behind; }
	}
}
END
	$nginx = fork() // die "could not fork: $!";
	if ($nginx == 0)
	{
		exec '/usr/sbin/nginx', '-p', $dir, '-c', "$dir/nginx.conf", '-e', "$dir/error.log" or POSIX::_exit(127);
	}
	WfxTest::wait_until(sub { -s "$dir/nginx.pid" && IO::Socket::INET->new("127.0.0.1:$port") }, 'nginx');
	return;
}

sub stop_nginx
{
	return if !defined $nginx;
	kill 'TERM', $nginx;
	waitpid $nginx, 0;
	undef $nginx;
	return;
}

END { stop_nginx(); }

# Synchronises everything, with nothing else in the server's log.
sub sync_with
{
	my ($settings) = @_;

	unlink "$dir/access.log";
	kill 'USR1', $nginx;
	WfxTest::wait_until(sub { -e "$dir/access.log" }, 'another log');
	is($test->sql("SET client_min_messages = error; $settings; SELECT wfx_mt4_sync_all() ->> 'message'"),
		"MT4 Sync complete: $ACCOUNTS success, 0 failed", $settings)
	  or diag($test->sql('SELECT string_agg(DISTINCT last_error, chr(10)) FROM mt4_integrations'));
	WfxTest::wait_until(sub { (() = slurp_file("$dir/access.log") =~ /\n/g) == $ACCOUNTS }, 'the log');
	return;
}

# How many connections of each protocol the server's log shows.
sub connections
{
	my %seen;
	$seen{ $_->[1] }{ $_->[0] } = 1 foreach map { [split] } split /\n/, slurp_file("$dir/access.log");
	return join ', ', map { "$_: " . keys %{ $seen{$_} } } sort keys %seen;
}

start_nginx(128);
sync_with('SET wfx_mt4.concurrency = 50');
is(connections(), 'HTTP/2.0: 1', 'fifty at once share a connection');
sync_with('SET wfx_mt4.concurrency = 400');
# some more where others hold up the server for a moment while they are opened
like(connections(), qr/^HTTP\/2\.0: [4-8]$/, 'four hundred take a connection for a hundred each');
sync_with('SET wfx_mt4.concurrency = 100; SET wfx_mt4.http2 = off');
is(connections(), 'HTTP/1.1: 100', 'without HTTP/2 each request in flight has its own');

# Ends what answers now; nginx starts another at once.
sub kill_server
{
	my ($pid) = split ' ', slurp_file("/proc/$nginx/task/$nginx/children");
	kill 'KILL', $pid;
	return;
}

# A request that is lost with a connection that was kept is sent once more; what was lost with
# a new one is an error, as the server may not like it.
my $id = $test->link('lost', mt4_server_endpoint => "https://127.0.0.1:$port");
my $session = $test->session;
my $sync = "SELECT coalesce(wfx_mt4_sync('$id') ->> 'error_code', 'none')";
is($session->query_safe($sync), 'none', 'a connection is opened');
foreach ([ $session, 1, 'none' ], [ $session, 2, 'connect' ], [ $test->session, 1, 'connect' ])
{
	my ($asking, $times, $code) = @$_;
	$test->provider->control('POST', 'reset');
	$test->provider->control('PUT', 'hold/lost');
	WfxTest::send_query($asking, $sync);
	foreach my $n (1 .. $times)
	{
		WfxTest::wait_until(sub { ($test->provider->stats->{by_account}{lost} // 0) == $n }, 'a request');
		kill_server();
	}
	WfxTest::wait_until(sub { $test->provider->stats->{in_flight} == 1 && $test->provider->stats->{requests} == $times + 1 },
		'it to come again') if $code eq 'none';
	$test->provider->control('DELETE', 'hold/lost');
	is((WfxTest::finish_query($asking))[0], $code, "lost $times times: $code");
	$asking->quit if $asking ne $session;
}
$session->quit;
$test->sql("SELECT wfx_mt4_unlink('$id')");

start_nginx(50);
sync_with('SET wfx_mt4.concurrency = 400');
# what it refuses before it has told its limit comes again, on connections of its own
like(connections(), qr/^HTTP\/2\.0: (?:[89]|[1-9]\d|1\d\d)$/, 'a server that takes fifty on each');

start_nginx(0);
sync_with('SET wfx_mt4.concurrency = 100');
is(connections(), 'HTTP/1.1: 100', 'a server without HTTP/2');
$test->stop;
stop_nginx();
done_testing();
