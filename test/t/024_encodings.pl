# Databases that are not in UTF-8: texts of providers, names and tokens.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $test = WfxTest->start(
	extension => 0,
	conf => q{
shared_preload_libraries = 'wfx_mt4'
wfx_mt4.databases = 'latin1, ascii, win1251'
wfx_mt4.poll_interval = '1s'
});
my $node = $test->node;
my $provider = $test->provider;

# A message with letters and symbols that not every encoding has.
$provider->control('PUT', 'answer/2', { status => 400,
	body => '{"message": "gesperrt: \u00fcber \u20ac500 \u0436 \ud83d\udcb0"}' });
$provider->control('PUT', 'answer/3', { body => '{"balance": 7306.649913200001, "currency": "USD", "name": "\u0436"}' });

foreach my $case ([ 'latin1', 'LATIN1' ], [ 'ascii', 'SQL_ASCII' ], [ 'win1251', 'WIN1251' ])
{
	my ($database, $encoding) = @$case;
	subtest $encoding => sub {
		$node->safe_psql('postgres',
			"CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
		$test->close_sessions;
		$test->{database} = $database;
		$test->create_extension;
		$test->wait_worker('running');
		my ($good, $bad) = ($test->link('3'), $test->link('2'));
		WfxTest::wait_until(
			sub { $test->sql(q{SELECT count(*) FROM mt4_integrations WHERE last_attempt IS NOT NULL}) == 2 },
			'the worker to have synchronised both');
		is($test->integration($bad)->{error_code}, 'http', 'a message that the encoding lacks is stored');
		like($test->integration($bad)->{last_error}, qr/gesperrt: .*ber .*500/, 'with what it has');
		is($test->performance($good)->{current_balance}, '7306.649913200001', 'numbers are what they are');
		like($test->sync($bad)->{error}, qr/gesperrt/, 'a function answers');
		like($test->error("SELECT * FROM wfx_mt4_fetch('$bad')"), qr/gesperrt/, 'and raises');
		is($test->sql(q{SELECT balance FROM wfx_mt4_decode('bridge', '{"balance": 5, "x": "\u0436"}')}),
			'5', 'an answer can be tried');
		like($test->error("SELECT wfx_mt4_set_token('$good', chr(228))"), qr/22023/, 'a token must be ASCII');
		is($test->sql('SELECT count(*) FROM wfx_mt4_security_report() WHERE severity IS NULL'), 0, 'the report works');
		is($test->worker->{state}, 'running', 'the worker lives');
	};
}
$test->stop;
done_testing();
