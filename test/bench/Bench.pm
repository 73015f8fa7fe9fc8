# What the benchmarks share: a fast provider, processors, processor time, tables.
#
#	my $provider = Bench::Nginx->start(cpu => 1);
#	$provider->endpoint;
#	$provider->change(digit => 3, round => 7);
#	Bench::row('name', ...);
package Bench;

use strict;
use warnings;

# Sessions of the test's own end after that many seconds.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 7200; }

use Carp qw(croak);
use List::Util qw(min sum);
use PostgreSQL::Test::Utils;
use POSIX qw();
use Time::HiRes qw(usleep clock_gettime CLOCK_MONOTONIC);

# Where bench.sh wants figures; the rest is for its log.
open(my $figures, '>&=', 3) or die "no descriptor for figures: $!";
$figures->autoflush;

sub say { print $figures "@_\n"; return; }

# A row of a Markdown table.
sub row { print $figures '| ' . join(' | ', @_) . " |\n"; return; }

# Its head; numbers stand on the right.
sub head
{
	my ($first, @others) = @_;
	row($first, @others);
	print $figures '|---|' . ('---:|' x @others) . "\n";
	return;
}

sub now { return clock_gettime(CLOCK_MONOTONIC); }

sub median
{
	my @values = sort { $a <=> $b } @_;
	return ($values[ $#values / 2 ] + $values[ @values / 2 ]) / 2;
}

# Puts a process on a processor; nothing on a machine that has only one.
sub pin
{
	my ($pid, $cpu) = @_;
	return if processors() <= $cpu;
	system('taskset', '--cpu-list', '--pid', $cpu, $pid) == 0 or croak "could not pin $pid";
	return;
}

sub processors { return scalar(my @all = glob('/sys/devices/system/cpu/cpu[0-9]*')); }

# Microseconds that a process has run.
sub cpu_us
{
	my ($pid) = @_;
	my ($ns) = split ' ', slurp_file("/proc/$pid/schedstat");
	return $ns / 1000;
}

# And that it has waited for a processor.
sub waited_us
{
	my ($pid) = @_;
	my (undef, $ns) = split ' ', slurp_file("/proc/$pid/schedstat");
	return $ns / 1000;
}

# Peak memory of a process in kB, and that without what it shares with others.
sub peak_kb
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 : 0;
}

sub private_kb
{
	my ($pid) = @_;
	my $maps = slurp_file("/proc/$pid/smaps_rollup");
	return sum($maps =~ /^Private_\w+:\s+(\d+)/mg);
}

# The anonymous memory of a process in kB, shared buffers excepted.
sub anonymous_kb
{
	my ($pid) = @_;
	return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m ? $1 : 0;
}

# Builds the program of what a sync costs at least; returns its path.
sub build_floor
{
	my ($source) = @_;
	my $program = PostgreSQL::Test::Utils::tempdir() . '/floor';
	my $flags = `pkg-config --cflags --libs libcurl json-c libpq`;

	chomp $flags;
	system("cc -O2 -Wall -Wextra -o $program $source $flags") == 0 or croak 'could not build floor.c';
	return $program;
}

# nginx, which answers faster than anybody can ask.
package Bench::Nginx;

use strict;
use warnings;

use Carp qw(croak);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

# Starts it.  Options: cpu, its processor; latency_ms; tls, for HTTPS and HTTP/2, is how many
# streams a connection may have; count, whether connections are; moving, the last digit of
# the accounts whose balance is another one in each second.
sub start
{
	my ($class, %options) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $self = bless {
		dir => $dir,
		port => PostgreSQL::Test::Cluster::get_free_port(),
		latency_ms => $options{latency_ms} // 0,
		tls => $options{tls},
		count => $options{count},
		asked => 0,
		moving => $options{moving} // 'x',
		digit => 'x',
		round => 0,
		generation => 0
	}, $class;

	system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
		  . " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
		  . " -keyout $dir/key.pem -out $dir/cert.pem") == 0 or croak 'could not make a certificate'
	  if $self->{tls};
	# tickets that a reload does not make void
	system("openssl rand 80 >$dir/ticket.key") == 0 or croak 'could not make a key' if $self->{tls};
	$self->_configure;
	my @command = ('/usr/sbin/nginx', '-p', $dir, '-c', "$dir/nginx.conf", '-e', "$dir/error.log");
	unshift @command, 'taskset', '--cpu-list', $options{cpu}
	  if defined $options{cpu} && $options{cpu} < Bench::processors();
	# as many connections as a process may have here
	unshift @command, 'sh', '-c', 'ulimit -n "$(ulimit -Hn)"; exec "$@"', 'sh';
	my $pid = fork() // croak "could not fork: $!";
	if ($pid == 0)
	{
		exec @command or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$self->_wait;
	return $self;
}

sub endpoint
{
	my ($self) = @_;
	return ($self->{tls} ? 'https' : 'http') . "://127.0.0.1:$self->{port}";
}

sub certificate { return $_[0]->{dir} . '/cert.pem'; }

# Gives the accounts whose number ends in a digit another balance; waits until
# that holds.
sub change
{
	my ($self, %new) = @_;
	$self->{$_} = $new{$_} foreach keys %new;
	$self->{generation}++;
	$self->_configure;
	kill 'HUP', $self->{pid};
	$self->_wait;
	return;
}

# Closes all connections that it has kept; its former process does so after a moment.
sub close_connections
{
	my ($self) = @_;
	$self->change;
	$self->_until(sub { ($self->connections)[1] == 0 }, 'nginx keeps its connections');
	return;
}

# How many connections have been opened, and how many are open, without our own.
sub connections
{
	my ($self) = @_;
	my $status = $self->_ask('status');
	my ($active, $accepted) = $status =~ /^Active connections: (\d+).*?^ (\d+) /ms or croak "nginx: $status";
	return ($accepted - $self->{asked}, $active - 1);
}

# How many handshakes were full, and how many resumed a session, of the connections that have
# carried a request.
sub handshakes
{
	my ($self) = @_;
	my $log = slurp_file("$self->{dir}/first.log");
	return (scalar(() = $log =~ /^\.$/mg), scalar(() = $log =~ /^r$/mg));
}

sub _ask
{
	my ($self, $path) = @_;
	my $answer = `curl -sk @{[ $self->endpoint ]}/$path`;

	$self->{asked}++ if $? == 0;
	return $answer;
}

# Waits until what is configured holds.
sub _wait
{
	my ($self) = @_;
	$self->_until(sub { $self->_ask('generation') eq $self->{generation} }, 'nginx does not answer');
	return;
}

# Asks until a condition holds; dies where that takes too long.
sub _until
{
	my ($self, $condition, $complaint) = @_;
	foreach (1 .. 1000)
	{
		return if $condition->();
		usleep(10_000);
	}
	croak "$complaint: " . slurp_file("$self->{dir}/error.log");
}

sub _configure
{
	my ($self) = @_;
	my $generation = $self->{generation};
	my $listen = $self->{tls} ? "127.0.0.1:$self->{port} ssl http2" : "127.0.0.1:$self->{port}";
	my $tls = $self->{tls} ? "ssl_certificate $self->{dir}/cert.pem;
		ssl_certificate_key $self->{dir}/key.pem; ssl_session_ticket_key $self->{dir}/ticket.key; http2_max_concurrent_streams $self->{tls};" : '';
	my $module = $self->{latency_ms} ? 'load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;' : '';
	my $balance = 10000 + $self->{round};
	my $body = qq({"login":"\$account","balance":\$balance.25,"equity":10012.75,"credit":0,)
	  . q("margin":120.5,"freeMargin":9892.25,"marginLevel":8309.34,"trades":3,"currency":"USD"});
	my $answer = $self->{latency_ms} ?
	  sprintf(q(echo_sleep %.3f; echo -n '%s';), $self->{latency_ms} / 1000, $body) : "return 200 '$body';";

	my $log = $self->{count} ? "access_log $self->{dir}/first.log first if=\$is_first;" : '';

	# what servers do nowadays; nginx 1.22 does not by itself
	$tls .= 'ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:sessions:10m;' if $self->{tls} && $self->{count};

	unlink "$self->{dir}/nginx.conf";
	append_to_file("$self->{dir}/nginx.conf", <<"END");
$module
daemon off;
worker_processes 1;
pid $self->{dir}/nginx.pid;
events { worker_connections 50000; }
http {
	access_log off;
	default_type application/json;
	client_body_temp_path $self->{dir}/body;
	proxy_temp_path $self->{dir}/proxy;
	fastcgi_temp_path $self->{dir}/fastcgi;
	uwsgi_temp_path $self->{dir}/uwsgi;
	scgi_temp_path $self->{dir}/scgi;
	keepalive_requests 100000000;
	keepalive_timeout 3600;
	map \$msec \$second { "~(?<s>[0-9][0-9][0-9])[.]" 10\$s; }
	map \$uri \$balance { default 10000; "~$self->{digit}\$" $balance; "~$self->{moving}\$" \$second; }
	log_format first '\$ssl_session_reused';
	map \$connection_requests \$is_first { default 0; 1 1; }
	server {
		listen $listen backlog=8192;
		$tls
		location = /generation { return 200 '$generation'; }
		location = /status { stub_status; }
		location ~ ^/accounts/(?<account>[0-9]+)\$ { $log $answer }
	}
}
END
	return;
}

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	$self->stop;
	return;
}

1;
