# Where nothing can be written, nothing is sent: on a standby and in a
# read-only transaction.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start(init => [ allows_streaming => 1 ]);
my $id = $test->link('1~balance-1100');
my $credential = $test->sql('SELECT id FROM trading_credentials');
$test->sync($id);
$test->sql('UPDATE mt4_integrations SET next_sync_at = now()');

my $primary = $test->node;
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay');
$test->provider->control('POST', 'reset');

my %nodes = (
	'standby' => [ $standby, '' ],
	'read-only transaction' =>
	  [ $primary, 'SET default_transaction_read_only = on;' ]);

foreach my $name (sort keys %nodes)
{
	my ($node, $settings) = @{ $nodes{$name} };

	foreach (
		"SELECT wfx_mt4_sync('$id')",
		'SELECT wfx_mt4_sync_all()',
		'SELECT wfx_mt4_sync_due()',
		'CALL wfx_mt4_run_due()',
		"SELECT wfx_mt4_request_sync('$id')",
		"SELECT wfx_mt4_link('$credential', '1', 'token', '"
		. $test->provider->endpoint . "')",
		"SELECT wfx_mt4_unlink('$id')",
		'SELECT wfx_mt4_expose()',
		'SELECT wfx_mt4_import_earlier(false)')
	{
		my (undef, undef, $error) =
		  $node->psql('postgres', "$settings $_",
			extra_params => [ '--set', 'VERBOSITY=verbose' ]);
		like($error, qr/ERROR:  25006: /, "$name: $_");
	}
	like(
		$node->safe_psql(
			'postgres', "$settings SELECT * FROM wfx_mt4_leaderboard()"),
		qr/1100/,
		"$name: the leaderboard can be read");
	is( $node->safe_psql(
			'postgres', "$settings SELECT integrations FROM wfx_mt4_summary() CROSS JOIN (SELECT count(*) FROM wfx_mt4_import_earlier()) AS i"),
		1, "$name: and the rest");
}
is($test->provider->stats->{requests}, 0, 'nothing was sent');

$standby->stop;
$test->stop;
done_testing();
