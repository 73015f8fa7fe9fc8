# An answer for an integration that was removed or changed while it was being
# fetched is dropped, and nothing is created again.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $session = $test->session;
my $other = $test->session;

# What happens meanwhile; :id and :trader stand for the integration and another
# trader.
my %changes = (
	'deleted' => 'DELETE FROM mt4_integrations WHERE id = :id',
	'unlinked' => 'SELECT wfx_mt4_unlink(:id)',
	'deactivated' => 'SELECT wfx_mt4_set_active(:id, false)',
	'given another token' => "SELECT wfx_mt4_set_token(:id, 'token-2')",
	'given another account' =>
	  "UPDATE mt4_integrations SET mt4_account_id = 'other' WHERE id = :id",
	'given another endpoint' =>
	  "UPDATE mt4_integrations SET mt4_server_endpoint = 'http://127.0.0.1:1' WHERE id = :id",
	'given another provider' =>
	  "UPDATE mt4_integrations SET mt4_provider = 'metaapi' WHERE id = :id",
	'assigned to another trader' =>
	  'SELECT wfx_mt4_assign_credential(:trader, credential_id)
	     FROM mt4_integrations WHERE id = :id',
	'without its trader' => 'DELETE FROM traders WHERE id <> :trader',
	'without its credential' => 'DELETE FROM trading_credentials WHERE id =
	     (SELECT credential_id FROM mt4_integrations WHERE id = :id)');

# The account, whose answer is held until something has been changed.
my $account = '1~balance-100';

# Runs a sync while the change happens; returns what it printed.
sub sync_during
{
	my ($sync, $change) = @_;

	$test->reset;
	$test->provider->control('PUT', "hold/$account");
	my $neighbour = $test->link('neighbour');
	my $id = $test->link($account);
	my %names = (
		id => $id,
		trader => $test->sql(
			"INSERT INTO traders (full_name, is_approved) VALUES ('Other', true) RETURNING id"
		));
	$test->sql(
		"INSERT INTO performance_data (trader_id, current_balance) VALUES ('"
		  . $test->trader($id)
		  . "', 17)")
	  if $change !~ /traders/;
	$sync   =~ s/:id/'$id'/;
	$change =~ s/:(id|trader)/'$names{$1}'/g;

	WfxTest::send_query($session, $sync);
	WfxTest::wait_until(
		sub {
			$test->provider->stats->{by_account}{$account};
		},
		'the request');
	$other->query_safe($change);
	$test->provider->control('DELETE', "hold/$account");
	my ($output, $state) = WfxTest::finish_query($session);
	is($state, '00000', 'no error');
	return ($id, $output);
}

foreach my $change (sort keys %changes)
{
	subtest "$change during wfx_mt4_sync" => sub {
		my ($id, $output) =
		  sync_during('SELECT wfx_mt4_sync(:id)', $changes{$change});
		my $result = JSON::PP->new->decode($output);

		ok(!$result->{success}, 'no success');
		is($result->{error_code}, 'config', 'error code');
		like($result->{error}, qr/dropped/, 'error');
		is( $test->sql(
				'SELECT count(*) FROM performance_data WHERE current_balance = 100'
			),
			0,
			'nothing is stored');
		is( $test->sql(
				"SELECT count(*) FROM mt4_integrations WHERE last_attempt IS NOT NULL"
			),
			0,
			'no row of an integration is written');
		is($test->sql('SELECT count(*) FROM account_snapshots'),
			0, 'no snapshot');
	};

	subtest "$change during wfx_mt4_run_due" => sub {
		my ($id) = sync_during('CALL wfx_mt4_run_due()', $changes{$change});

		is( $test->sql(
				'SELECT count(*) FROM performance_data WHERE current_balance = 100'
			),
			0,
			'nothing is stored');
		isnt($test->integration($id)->{sync_status} // 'none',
			'syncing', 'it is not left as syncing');
		is( $test->sql(
				"SELECT count(*) FROM performance_data
				WHERE current_balance > 100"),
			1,
			'the neighbour is stored') if $change ne 'without its trader';
	};
}

$_->quit foreach ($session, $other);
$test->stop;
done_testing();
