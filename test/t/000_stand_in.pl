# The stand-in provider does what the other tests rely on.  Needs no server.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use POSIX qw();
use Test::More;
use Time::HiRes qw(time);

use lib "$FindBin::RealBin/../perl";
use StandIn;

alarm 60;    # nothing below should ever wait that long

my $dir = tempdir(CLEANUP => 1);
my $provider = StandIn->start(log => "$dir/requests.log");
my $metaapi = 'users/current/accounts';

# Connects to the provider; nothing here takes as long as the time limit.
sub dial
{
	my $socket = IO::Socket::INET->new(
		PeerAddr => '127.0.0.1',
		PeerPort => $provider->port,
		Timeout => 10
	) or die "could not connect: $@";
	return $socket;
}

# Returns a request as it goes over the wire.
sub request
{
	my ($path, @headers) = @_;
	return
	  join("\r\n", "GET /$path HTTP/1.1", 'Host: stand-in', @headers, '', '');
}

# Sends a request on a connection of its own and returns all that comes back,
# as it comes.
sub raw
{
	my ($path) = @_;
	my $socket = dial();

	print $socket request($path, 'Authorization: Bearer token-1',
		'Connection: close');
	local $/;
	return scalar(<$socket>) // '';
}

# Sends a request to a URL and returns HTTP::Tiny's response.
sub get_url
{
	my ($url, %headers) = @_;

	%headers = (authorization => 'Bearer token-1') unless %headers;
	return HTTP::Tiny->new(max_redirect => 0)
	  ->get($url, { headers => \%headers });
}

# Sends a request for a path and returns HTTP::Tiny's response.
sub get
{
	my ($path, @headers) = @_;
	return get_url($provider->endpoint . "/$path", @headers);
}

# Sends a request for a path and returns the decoded body of the answer.
sub body
{
	return decode_json(get(@_)->{content});
}

# Returns the log line of an account's only request, which may still be under
# way.
sub logged
{
	my ($account) = @_;

	foreach (1 .. 100)
	{
		my @lines =
		  grep { ($_->{account} // '') eq $account } $provider->requests;
		return $lines[0] if @lines;
	}
	die "no request of account $account was logged";
}

subtest 'an account in good health' => sub {
	my $bridge = body('base/path/accounts/4711');
	is($bridge->{login}, 4711, 'digits are a login');
	like($bridge->{balance}, qr/^(9\d\d|10\d\d)(\.\d+)?$/,
		'balance is around 1000');
	is_deeply(body('accounts/4711'), $bridge, 'the next answer is the same');
	ok(!exists body('accounts/alice')->{login}, 'letters are none');

	my $information =
	  body("$metaapi/4711/account-information", 'auth-token' => 'token-1');
	is($information->{balance},
		$bridge->{balance}, 'MetaApi has the same balance');
	ok(!exists $information->{profit}, 'MetaApi sends no profit');
	is(scalar @{ body("$metaapi/4711/positions") },
		$bridge->{trades}, 'as many positions as trades');
	is(get('nowhere')->{status}, 404, 'unknown path');
};

subtest 'tokens' => sub {
	is(get('accounts/1', 'x-other' => 'x')->{status}, 401, 'none');
	is(get('accounts/1', authorization => 'Bearer wrong')->{status},
		401, 'wrong');
	is(get('accounts/1', 'auth-token' => 'forbidden')->{status},
		403, 'forbidden');
	is(body("$metaapi/1/positions", 'auth-token' => 'wrong')->{error},
		'UnauthorizedError', 'MetaApi has its own shape of errors');
};

subtest 'directives that change the document' => sub {
	like(raw('accounts/1~balance--0.10'), qr/"balance":-0\.10,/, 'balance');
	like(
		raw('accounts/1~nan~wrapped-data'),
		qr/\{"data":\{.*"balance":NaN,.*\}\}$/,
		'nan, wrapped'
	);
	like(raw('accounts/1~badutf8'), qr/"caf\xe9 /, 'badutf8');
	like(raw('accounts/1~dup'), qr/"balance":9.*"balance":1\.00/, 'dup');
	is(length(get('accounts/1~large-5000')->{content}), 5000, 'large');
	is(body('accounts/7~strings~upper')->{LOGIN}, '7', 'strings, upper');
	is(body('accounts/7~wrapped-records')->{records}[1]{login},
		7, 'wrapped-records');
};

subtest 'directives that change the status' => sub {
	my $response = get('accounts/1~status-429~retry-7');
	is($response->{status}, 429, 'status');
	is($response->{headers}{'retry-after'}, 7, 'retry');
	like(get('accounts/1~retry-date30')->{headers}{'retry-after'},
		qr/ GMT$/, 'retry with a date');
	is(get('accounts/1~status-401~empty')->{content}, '', 'empty');
	is(get('accounts/1~redirect')->{headers}{location},
		$provider->endpoint . '/redirected/accounts/1', 'redirect');
	like(get('accounts/1~echo')->{content}, qr/token-1/, 'echo');
};

subtest 'directives for /positions' => sub {
	my $account = "$metaapi/1~positions-status-429~retry-7";
	is(get("$account/account-information")->{status},
		200, 'the account is well');
	is(get("$account/positions")->{headers}{'retry-after'},
		7, 'its positions are not');
	is(scalar @{ body("$metaapi/1~positions-3/positions") }, 3, 'positions');
};

subtest 'directives that change the transport' => sub {
	like(raw('accounts/1~truncated'), qr/\}$/, 'truncated');
	like(raw('accounts/1~chunked'), qr/\r\n0\r\n\r\n$/, 'chunked');
	unlike(raw('accounts/1~cut'), qr/\}/, 'cut');
	like(
		raw('accounts/1~continue1xx-2'),
		qr/^(HTTP\/1\.1 100 Continue\r\n\r\n){2}HTTP\/1\.1 200 /,
		'continue1xx'
	);
	unlike(raw('accounts/1~garbage'), qr/HTTP/, 'garbage');
	is(raw('accounts/1~close'), '', 'close');
	cmp_ok(length(raw('accounts/1~headerflood')),
		'>', 1_000_000, 'headerflood');

	my $start = time;
	like(raw('accounts/1~drip-1~delay-50'), qr/\}$/, 'drip');
	cmp_ok(time - $start, '>', 0.15, 'delay and drip take their time');
};

subtest 'an unknown directive is an error' => sub {
	open(my $stderr, '>&', \*STDERR) or die "could not save stderr: $!";
	open(STDERR, '>', "$dir/stderr") or die "could not redirect stderr: $!";
	my $other = StandIn->start;
	open(STDERR, '>&', $stderr) or die "could not restore stderr: $!";

	my $response = get_url($other->endpoint . '/accounts/1~nosuch');
	is($response->{status}, 500, 'to the client');
	open(my $complaints, '<', "$dir/stderr") or die "could not open file: $!";
	like(
		<$complaints>,
		qr/no directive "nosuch"/,
		'and to whoever runs the test'
	);
};

subtest 'keep-alive' => sub {
	my $socket = dial();

	foreach my $account ('first', 'second')
	{
		print $socket request("accounts/$account~balance-5",
			'auth-token: token-1');
		like(<$socket>, qr/ 200 OK/, "$account answer");
		my $length;
		while ((my $line = <$socket>) ne "\r\n")
		{
			$length = $1 if $line =~ /^Content-Length: (\d+)/;
		}
		read($socket, my $body, $length);
		like($body, qr/^\{.*"balance":5,.*\}$/, "$account body");
	}
	is(
		logged('first~balance-5')->{connection},
		logged('second~balance-5')->{connection},
		'one connection'
	);
};

subtest 'log' => sub {
	get('accounts/logged~delay-20?x=y');
	my $line = logged('logged~delay-20');
	is(
		"@{$line}{qw(method path query token status)}",
		'GET /accounts/logged~delay-20 x=y token-1 200',
		'request'
	);
	cmp_ok($line->{end} - $line->{start}, '>=', 0.02, 'times');
	is($line->{headers}{host}, '127.0.0.1:' . $provider->port, 'headers');

	my $socket = dial();
	print $socket request('accounts/given-up~hang', 'auth-token: token-1');
	close $socket;
	is(logged('given-up~hang')->{status},
		undef, 'a request that the client gave up');
};

subtest 'control' => sub {
	$provider->control('POST', 'reset');
	$provider->control('PUT', 'answer/fixed',
		{ status => 418, headers => { 'X-Test' => 'yes' }, body => 'short' });
	my $response = get('accounts/fixed');
	is(
		"$response->{status} $response->{headers}{'x-test'} $response->{content}",
		'418 yes short',
		'an answer made by a test'
	);
	$provider->control('DELETE', 'answer/fixed');
	is(get('accounts/fixed')->{status}, 200, 'is gone again');

	$provider->control('PUT', 'counter/counted');
	is(body('accounts/counted')->{balance}, $_, "balance counts request $_")
	  foreach (1, 2);

	my $stats = $provider->stats;
	is($stats->{requests}, 4, 'requests');
	is($stats->{connections}, 4, 'connections, without those for control');
	is("$stats->{in_flight} $stats->{max_in_flight}",
		'0 1', 'requests in flight');
	is_deeply(
		$stats->{by_account},
		{ fixed => 2, counted => 2 },
		'requests by account'
	);

	$provider->control('PUT', 'hold/held');
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $provider->port)
	  or die "could not connect: $!";
	print $socket request('accounts/held', 'auth-token: token-1');
	Time::HiRes::sleep(0.01) until $provider->stats->{in_flight} == 1;
	Time::HiRes::sleep(0.1);
	is($provider->stats->{in_flight}, 1, 'an answer is held');
	$provider->control('DELETE', 'hold/held');
	like(scalar <$socket>, qr/ 200 /, 'until it is released');
	close $socket;

	$provider->control('PUT', 'down');
	is(raw('accounts/1'), '', 'down');
	$provider->control('PUT', 'up');
	is(get('accounts/1')->{status}, 200, 'up');
};

subtest 'more than one host' => sub {
	my $other = StandIn->start(
		args => [ '--host', '127.0.0.1', '--host', '127.0.0.2' ]);
	is(get_url($other->endpoint($_) . '/accounts/1')->{status}, 200, $_)
	  foreach ('127.0.0.1', '127.0.0.2');
};

subtest 'stop' => sub {
	my $paused = StandIn->start;
	kill 'STOP', $paused->{pid};
	{
		local $? = 3;
		$paused->stop;
		is($?, 3, 'leaves the exit status alone');
	}
	ok(!get_url($paused->endpoint . '/accounts/1')->{success},
		'ends a paused server');

	my $other = StandIn->start;
	kill 'TERM', $other->{pid};
	waitpid($other->{pid}, 0);
	is($?, 0, 'SIGTERM is a clean end');
};

subtest 'the server ends with whoever started it' => sub {
	pipe(my $reader, my $writer) or die "could not create pipe: $!";
	my $child = fork() // die "could not fork: $!";
	if ($child == 0)
	{
		close $reader;
		my $orphan = StandIn->start;
		print $writer $orphan->port;
		close $writer;
		POSIX::_exit(0);
	}
	close $writer;
	my $port = <$reader>;
	waitpid($child, 0);

	my $gone;
	foreach (1 .. 1000)
	{
		$gone =
		  !IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
		last if $gone;
		Time::HiRes::sleep(0.01);
	}
	ok($gone, 'it no longer listens');
};

$provider->stop;
done_testing();
