# Which integration writes the numbers of a trader.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $test = WfxTest->start;
my $older = $test->link('1~balance-100', created_at => '2026-01-01');
my $trader = $test->trader($older);
my $newer = $test->link(
	'2~balance-200',
	created_at => '2026-01-02',
	trader => $trader);

# Returns the balance that is stored for the trader.
sub balance
{
	return $test->sql(
		"SELECT current_balance FROM performance_data WHERE trader_id = '$trader'"
	);
}

my $result = $test->sync($older);
is($result->{error_code}, 'config', 'the older one is superseded');
like($result->{error}, qr/\Q$newer/, 'the error names the newer one');
is(balance(), '', 'nothing is stored');
is_deeply($test->provider->stats->{by_account}, {}, 'nothing is sent');

is( $test->sync_all->{message},
	'MT4 Sync complete: 1 success, 1 failed',
	'both at once');
is(balance(), '200', 'the newer one has written');

$test->sql("SELECT wfx_mt4_set_active('$newer', false)");
ok($test->sync($older)->{success}, 'the newer one is inactive');
is(balance(), '100', 'the older one writes again');

# A credential counts for its latest assignment.
my $other = $test->sql(
	"INSERT INTO traders (full_name, is_approved) VALUES ('Other', true) RETURNING id"
);
$test->sql(
	"SELECT wfx_mt4_set_active('$newer', true);
	INSERT INTO credential_assignments (trader_id, credential_id, assigned_at)
	SELECT '$other', credential_id, now() + interval '1 s'
	  FROM mt4_integrations WHERE id = '$newer'");
ok($test->sync($_)->{success}, 'no longer the same trader')
  foreach ($older, $newer);
is( $test->sql(
		"SELECT current_balance FROM performance_data WHERE trader_id = '$other'"
	),
	'200',
	'the other trader has the numbers');
is(balance(), '100', 'the first one has those of his own');

# The same where all are read at once, whoever else has had it before; a table that was
# adopted may not say when.
$test->sql(
	"ALTER TABLE credential_assignments ALTER assigned_at DROP NOT NULL;
	WITH t AS (INSERT INTO traders (full_name, is_approved)
	   SELECT 'Former ' || n, true FROM generate_series(1, 3) n RETURNING id)
	INSERT INTO credential_assignments (trader_id, credential_id, assigned_at)
	SELECT t.id, i.credential_id, CASE row_number() OVER () WHEN 1 THEN NULL
	   WHEN 2 THEN '-infinity' ELSE now() - interval '1 day' END
	  FROM t, mt4_integrations i WHERE i.id = '$newer'");
is( $test->sync_all->{message},
	'MT4 Sync complete: 2 success, 0 failed',
	'each once');
is( $test->sql(
		"SELECT string_agg(t.full_name || ' ' || p.current_balance, ', ' ORDER BY p.current_balance)
		   FROM performance_data p JOIN traders t ON t.id = p.trader_id"),
	'Trader of 1~balance-100 100, Other 200',
	'the latest assignment holds');

$test->stop;
done_testing();
