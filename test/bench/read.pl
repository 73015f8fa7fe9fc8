# What people look at, with 100,000 traders: how long the server takes for it.
#
#	make bench BENCH=read
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl", $FindBin::RealBin;
use Bench;
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $TRADERS = $ENV{BENCH_ACCOUNTS} // 100_000;
my $test = WfxTest->start(conf => q{
shared_buffers = 512MB
max_wal_size = 8GB
log_statement = none
});

$test->link_many($TRADERS, 'n', 'token-1', 'https://bridge.example.com');
$test->sql(q{INSERT INTO performance_data (trader_id, current_balance, equity, profit_percentage, achieved_at, observed_at)
	SELECT id, 1000 + r, 1000 + r, CASE WHEN r > 1 THEN round((r / 10)::numeric, 1) END, now(), now()
	  FROM traders, LATERAL (SELECT random() * 5000 AS r WHERE id IS NOT NULL) AS x;
	UPDATE mt4_integrations SET last_sync = now() - random() * interval '40 min', last_attempt = now(),
	  sync_status = CASE WHEN random() < 0.1 THEN 'error' ELSE 'success' END});
$test->sql('VACUUM ANALYZE');
my $middle = $test->sql("SELECT id FROM mt4_integrations ORDER BY id OFFSET $TRADERS / 2 LIMIT 1");

# Milliseconds of each of a number of calls in a session that has made some already.
sub took
{
	my ($query, $calls) = @_;
	my $session = $test->session;
	my @ms = split ' ', $session->query_safe("SET client_min_messages = notice;
		CREATE TEMP TABLE took (ms float8);
		DO \$do\$ DECLARE since timestamptz; BEGIN
		  FOR i IN 1 .. $calls + 10 LOOP
		    since := clock_timestamp();
		    PERFORM * FROM $query;
		    IF i > 10 THEN INSERT INTO took VALUES (1000 * extract(epoch FROM clock_timestamp() - since)); END IF;
		  END LOOP;
		END \$do\$;
		SELECT ms FROM took ORDER BY ms");
	$session->quit;
	return @ms;
}

Bench::say("$TRADERS traders, each with an account\n");
Bench::head('call', 'median ms', '95 % ms');
foreach my $call (
	[ 'get_leaderboard(10)', 300 ],
	[ 'wfx_mt4_leaderboard(100)', 300 ],
	[ 'wfx_mt4_status(50)', 300 ],
	[ "wfx_mt4_status(50, '$middle')", 300 ],
	[ q{wfx_mt4_status(50, status => 'error')}, 100 ],
	[ q{wfx_mt4_status(50, search => '99999')}, 10 ],
	[ 'wfx_mt4_recent_syncs()', 300 ],
	[ 'wfx_mt4_credentials(50)', 300 ],
	[ 'wfx_mt4_traders(50)', 300 ],
	[ 'wfx_mt4_summary()', 10 ])
{
	my ($query, $calls) = @$call;
	my @ms = took($query, $calls);
	Bench::row("`$query`" =~ s/'[0-9a-f-]{36}'/(an id in the middle)/r, map { sprintf '%.2f', $_ } $ms[ @ms / 2 ], $ms[ 0.95 * @ms ]);
}
Bench::say('');
$test->stop;
ok(1, 'read');
done_testing();
