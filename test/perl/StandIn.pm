# Starts and steers the stand-in provider, provider/provider.py.
#
#	my $provider = StandIn->start(log => "$dir/requests.log");
#	$provider->endpoint;                          # http://127.0.0.1:PORT
#	$provider->control('PUT', 'counter/4711');
#	$provider->control('PUT', 'answer/4711', { status => 200, body => '{}' });
#	$provider->stats->{max_in_flight};
#	$_->{status} foreach $provider->requests;
#	$provider->stop;
#
# A server that is not stopped ends with its object, with the test, or, should
# the test be killed, with the end of its own standard input.
package StandIn;

use strict;
use warnings;

use Carp qw(croak);
use File::Basename qw(dirname);
use HTTP::Tiny;
use JSON::PP qw(decode_json encode_json);
use POSIX qw();

my $PYTHON = '/usr/bin/python3';
my $PROGRAM = dirname(__FILE__) . '/../provider/provider.py';

# pid of every running server => pid of the process that started it, since a
# fork of the test must not end the servers of its parent.
my %running;

# Starts a server and waits until it listens.  Options: args, a reference to
# further arguments of provider.py; log, the file it appends requests to.
sub start
{
	my ($class, %options) = @_;
	my @args = @{ $options{args} // [] };

	unshift @args, '--log', $options{log} if defined $options{log};
	my ($pid, $stdin, $stdout) =
	  _spawn($PYTHON, $PROGRAM, '--exit-with-parent', @args);
	my ($port) = (<$stdout> // '') =~ /^(\d+)$/;
	my $self = bless {
		pid => $pid,
		stdin => $stdin,
		port => $port,
		host => _value_of('--host', @args) // '127.0.0.1',
		scheme => defined _value_of('--tls-cert', @args) ? 'https' : 'http',
		log => $options{log}
	}, $class;
	croak "the stand-in provider did not start" unless defined $port;
	return $self;
}

# Runs a command and returns its pid, its standard input and its standard
# output.  File descriptors are used directly because test frameworks tie the
# handles.
sub _spawn
{
	my @command = @_;

	pipe(my $child_in, my $to_child) or croak "could not create pipe: $!";
	pipe(my $from_child, my $child_out) or croak "could not create pipe: $!";
	my $pid = fork() // croak "could not fork: $!";
	if ($pid == 0)
	{
		POSIX::dup2(fileno($child_in), 0);
		POSIX::dup2(fileno($child_out), 1);
		exec @command or POSIX::_exit(127);
	}
	$running{$pid} = $$;
	return ($pid, $to_child, $from_child);
}

# Returns the first value of an option on a command line.
sub _value_of
{
	my ($name, @args) = @_;

	foreach my $i (0 .. $#args - 1)
	{
		return $args[ $i + 1 ] if $args[$i] eq $name;
	}
	return;
}

# Returns the port the server listens on.
sub port
{
	my ($self) = @_;
	return $self->{port};
}

# Returns the URL of the server, optionally by another name of its host.
sub endpoint
{
	my ($self, $host) = @_;

	$host //= $self->{host};
	$host = "[$host]" if $host =~ /:/;
	return "$self->{scheme}://$host:$self->{port}";
}

# Sends a request to the control API and returns its answer.  The path is the
# part below /control/; the body is anything that JSON can hold.  A server with
# TLS can be controlled only where IO::Socket::SSL is installed.
sub control
{
	my ($self, $method, $path, $body) = @_;

	$self->{client} //= HTTP::Tiny->new(
		no_proxy => [ $self->{host} ],
		verify_SSL => 0
	);
	my $response = $self->{client}->request(
		$method,
		$self->endpoint . "/control/$path",
		{ content => defined $body ? encode_json($body) : '' }
	);
	croak "$method $path: $response->{status} $response->{content}"
	  unless $response->{success};
	return decode_json($response->{content});
}

# Returns what was counted since the start or the last POST reset.
sub stats
{
	my ($self) = @_;
	return $self->control('GET', 'stats');
}

# Returns the finished requests, oldest first.  A line is written just after
# the answer it belongs to; a server that talks to us has written it.
sub requests
{
	my ($self) = @_;

	croak "the stand-in provider has no log" unless defined $self->{log};
	$self->stats if defined $self->{pid} && $self->{scheme} eq 'http';
	open(my $log, '<', $self->{log}) or croak "could not open log: $!";
	return map { decode_json($_) } <$log>;
}

# Stops the server.  Stopping it twice does no harm.
sub stop
{
	my ($self) = @_;

	_end_process(delete $self->{pid}) if defined $self->{pid};
	return;
}

# Ends a server of ours, also one that a test has paused with SIGSTOP.
sub _end_process
{
	my ($pid) = @_;

	return if (delete $running{$pid} // 0) != $$;
	local $?;
	kill 'TERM', $pid;
	kill 'CONT', $pid;
	waitpid($pid, 0);
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local ($@, $!);
	$self->stop;
	return;
}

# The exit status belongs to the test.
END
{
	local $?;
	_end_process($_) foreach keys %running;
}

1;
