# What docs/monitoring.md describes: the exporter itself runs the definitions, as
# the role that the page creates, and its numbers are those of a known state.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use HTTP::Tiny;
use IPC::Run qw(start);
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $docs = "$FindBin::RealBin/../../docs";
my $dir = PostgreSQL::Test::Utils::tempdir();

# Reads YAML.
sub load_yaml
{
	my ($path) = @_;
	my ($json, $error) = run_command(
		[   '/usr/bin/python3', '-c',
			'import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))',
			$path ]);
	die "$path: $error" if $? != 0;
	return decode_json($json);
}

# Prints the definitions with the test's server, the optional query among them.
sub write_definitions
{
	my ($node, $path) = @_;
	my $yaml = slurp_file("$docs/monitoring/sql_exporter.yml")
	  . slurp_file("$docs/monitoring/failing-accounts.yml");
	my $url = sprintf('postgres://wfx_monitor@/postgres?host=%s&port=%d&sslmode=disable', $node->host, $node->port);

	$yaml =~ s{"postgres://[^"]+"}{"$url"} or die 'no connection';
	$yaml =~ s/interval: 30s/interval: 1s/ or die 'no interval';
	append_to_file($path, $yaml);
	return;
}

my $exporter;

END
{
	my $status = $?;
	$exporter->kill_kill if $exporter;
	$? = $status;
}

# Starts the exporter and returns its address.
sub start_exporter
{
	my ($definitions) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	$exporter = start(
		[   'prometheus-sql-exporter', '-config.file', $definitions,
			'-web.listen-address', "127.0.0.1:$port" ],
		'<', \undef, '>&', "$dir/exporter.log");
	return "http://127.0.0.1:$port/metrics";
}

# Returns the exporter's samples of our metrics as { name => [ { label => value } ] },
# the number as label "value".
sub scrape
{
	my ($url) = @_;
	my $response = HTTP::Tiny->new->get($url);
	my %samples;

	foreach (grep { $response->{success} } split /\n/, $response->{content})
	{
		my ($name, $labels, $value) = /^(sql_\w+)\{(.*)\} (\S+)$/ or next;
		my %sample = $labels =~ /(\w+)="([^"]*)"/g;
		push @{ $samples{$name} }, { %sample, value => $value };
	}
	return \%samples;
}

# Returns the numbers of a metric as { label => number }.
sub numbers
{
	my ($samples, $name, $label) = @_;
	return { map { $_->{$label} => 0 + $_->{value} } @{ $samples->{$name} // [] } };
}

# Fails unless the exporter produces what an expression uses.
sub check_expression
{
	my ($expression, $samples, $where) = @_;
	my @missing;

	while ($expression =~ /(sql_\w+)(?:\{([^}]*)\})?/g)
	{
		my ($name, $selectors) = ($1, $2 // '');
		my @series = @{ $samples->{$name} // [] };

		push @missing, $name unless @series;
		foreach my $selector (split /, ?/, $selectors)
		{
			my ($label, $value) = $selector =~ /^(\w+)=~?"([^"]*)"$/;
			push @missing, "$name $selector" unless defined $label && @series && exists $series[0]{$label};
			next unless ($label // '') eq 'col';
			foreach my $col (split /\|/, $value)
			{
				push @missing, "$name $col" unless grep { $_->{col} eq $col } @series;
			}
		}
	}
	like($expression, qr/sql_/, "$where uses a metric");
	is("@missing", '', "$where uses metrics that there are");
	return;
}

my $test = WfxTest->start(
	extension => 0,
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'postgres'
wfx_mt4.poll_interval = '1h'
});
my $node = $test->node;

$test->sql(
	q{CREATE SCHEMA extensions; CREATE EXTENSION wfx_mt4 SCHEMA extensions;
	  SELECT extensions.wfx_mt4_create_tables();
	  ALTER DATABASE postgres SET search_path = public, extensions});
$test->close_sessions;

# The role, as the page says.
my $page = slurp_file("$docs/monitoring.md");
my ($role) = $page =~ /```sql\n(.*?wfx_mt4_grant.*?)```/s;
$node->safe_psql('postgres', $role);

# Two successes, a refused token, a pause, and a failure that is switched off.
$test->wait_worker('running');
$test->link('1');
$test->link('2');
$test->link('3', mt4_api_token => 'wrong');
$test->link('4~status-429', mt4_api_token => 'token-2');
my $off = $test->link('5', mt4_api_token => 'wrong');
WfxTest::wait_until(
	sub { $test->sql(q{SELECT count(*) FROM sync_history}) == 5 },
	'five syncs');
$test->sql("SELECT wfx_mt4_set_active('$off', false)");

# Every column that the definitions name.
my $definitions = "$dir/sql_exporter.yml";
write_definitions($node, $definitions);
my ($job) = @{ load_yaml($definitions)->{jobs} };
my @queries = @{ $job->{queries} };
is(scalar(@queries), 5, 'the definitions have five queries');
foreach my $query (@queries)
{
	my %type = map { split /\|/, $_, 2 } split /\n/,
	  $node->safe_psql('postgres', "SET ROLE wfx_monitor; SET search_path = extensions;\n$query->{query}\\gdesc");
	my @labels = @{ $query->{labels} // [] };
	my @values = @{ $query->{values} };

	is_deeply([ sort keys %type ], [ sort @labels, @values ], "$query->{name} has the columns that it names");
	is_deeply([ grep { $type{$_} ne 'text' } @labels ], [], "$query->{name} has labels of type text");
	is_deeply([ grep { $type{$_} !~ /^(integer|bigint|numeric|double precision)$/ } @values ],
		[], "$query->{name} has values that are numbers");
	is_deeply([ grep { $page !~ /`$_`/ } @labels, @values ], [], "the page explains $query->{name}");
}

# The exporter's numbers.
my $url = start_exporter($definitions);
WfxTest::wait_until(sub { scrape($url)->{sql_wfx_mt4_failing_account} }, 'the exporter');
my $samples = scrape($url);

is_deeply(
	numbers($samples, 'sql_wfx_mt4_integrations', 'col'),
	{   integrations => 5, active => 4, pending => 0, syncing => 0, success => 2, error => 3,
		fresh => 2, late => 0, stale => 0, never => 2, disabled => 1, due => 0 },
	'the counts are those of the known state');
is_deeply(
	numbers($samples, 'sql_wfx_mt4_failing', 'error_code'),
	{ auth => 1, rate_limited => 1 },
	'failures are counted by their code');
my $worker = numbers($samples, 'sql_wfx_mt4_worker', 'col');
is_deeply(
	{ map { $_ => $worker->{$_} } qw(running restored in_flight due synced failed) },
	{ running => 1, restored => 0, in_flight => 0, due => 0, synced => 2, failed => 3 },
	'the worker is seen to run');
cmp_ok($worker->{bytes_received}, '>', 0, 'and how much it received');
my $seconds = numbers($samples, 'sql_wfx_mt4_schedule_seconds', 'col');
is($seconds->{overdue}, 0, 'nothing is overdue');
ok($seconds->{since_last_sync} > 0 && $seconds->{since_last_sync} < 120, 'the last success is recent');
cmp_ok(abs($seconds->{asked_at} - time), '<', WfxTest::limit(10), 'the time of asking is a Unix time');
is_deeply(
	numbers($samples, 'sql_wfx_mt4_failing_account', 'account_id'),
	{ 3 => 1, '4~status-429' => 1 },
	'the optional query names the accounts that fail');
is_deeply([ grep { $_->{value} != 0 } @{ $samples->{sql_exporter_last_scrape_failed} } ], [], 'no query failed');

# Alerts and dashboard.
my @rules = map { @{ $_->{rules} } } @{ load_yaml("$docs/monitoring/alerts.yml")->{groups} };
is(scalar(@rules), 7, 'there are seven alerts');
check_expression($_->{expr}, $samples, "alert $_->{alert}") foreach @rules;
is_deeply([ grep { $page !~ /\| `$_->{alert}` \|/ } @rules ], [], 'every alert is explained');

my $dashboard = decode_json(slurp_file("$docs/monitoring/grafana-dashboard.json"));
foreach my $panel (@{ $dashboard->{panels} })
{
	check_expression($_->{expr}, $samples, "panel $panel->{title}") foreach @{ $panel->{targets} };
}
check_expression($_, $samples, 'the choice of databases')
  foreach grep { defined } map { ref $_->{query} ? $_->{query}{query} : undef } @{ $dashboard->{templating}{list} };

# A state that wakes somebody up: much fails, and something waits.
my $series = sub { my ($s) = @_; return scalar(map { @{ $s->{$_} } } grep { !/failing_account/ } keys %$s) };
my $before = $series->($samples);
$test->link_many(25, q{10 + n}, 'wrong');
WfxTest::wait_until(
	sub {
		$samples = scrape($url);
		return (numbers($samples, 'sql_wfx_mt4_failing', 'error_code')->{auth} // 0) == 26
		  && @{ $samples->{sql_wfx_mt4_failing_account} } > 2;
	},
	'the failures');
is($series->($samples), $before, 'more accounts are no more time series');
is(scalar(@{ $samples->{sql_wfx_mt4_failing_account} }), 20, 'and the optional query has its limit');

$node->safe_psql('postgres', q{ALTER SYSTEM SET wfx_mt4.databases = ''});
$node->reload;
WfxTest::wait_until(sub { numbers(scrape($url), 'sql_wfx_mt4_worker', 'col')->{running} == 0 }, 'the worker to be missed');
$test->sql(q{UPDATE mt4_integrations SET next_sync_at = now() - interval '5 minutes' WHERE mt4_account_id IN ('1', '2')});
WfxTest::wait_until(
	sub {
		$samples = scrape($url);
		return numbers($samples, 'sql_wfx_mt4_schedule_seconds', 'col')->{overdue} >= 300
		  && numbers($samples, 'sql_wfx_mt4_integrations', 'col')->{due} == 2;
	},
	'the delay');
pass('what waits is due, and for how long is seen');

# The role's limits.
my %refused = (
	'SELECT mt4_api_token FROM mt4_integrations' => '42501',
	'SELECT full_name FROM traders' => '42501',
	'SELECT wfx_mt4_sync_all()' => '25006',
	q{SELECT wfx_mt4_link(NULL, '1', 't', 'https://example.com')} => '42501');
foreach my $statement (sort keys %refused)
{
	my (undef, undef, $error) = $node->psql('postgres', $statement,
		connstr => $node->connstr('postgres') . ' user=wfx_monitor',
		extra_params => [ '--set', 'VERBOSITY=verbose' ]);
	like($error, qr/ERROR:\s+$refused{$statement}:/, "the role is refused: $statement");
}

$test->stop;
done_testing();
