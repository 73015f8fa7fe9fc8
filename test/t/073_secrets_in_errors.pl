# A statement with a token or password in it stays out of the server's log where
# the extension's functions fail, whoever raises the error.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

use lib "$FindBin::RealBin/../perl";
use WfxTest;

my $secret = 'S3cretT0ken';
my $test = WfxTest->start(conf => 'log_statement = none');
my $endpoint = $test->provider->endpoint;
my $id = $test->link('1');
my $nobody = '00000000-0000-0000-0000-00000000dead';

my @failures = (
	[ 'an unknown integration', "SELECT wfx_mt4_set_token('$nobody', '$secret')", 'PT404' ],
	[ 'a token with a space', "SELECT wfx_mt4_set_token('$id', '$secret x')", '22023' ],
	[ 'a read-only transaction',
		"BEGIN READ ONLY; SELECT wfx_mt4_set_token('$id', '$secret')", '25006' ],
	[ 'a missing table',
		"SET wfx_mt4.schema = 'nowhere'; SELECT wfx_mt4_set_token('$id', '$secret')", '42P01' ],
	[ 'an unknown credential', "SELECT wfx_mt4_link('$nobody', '1', '$secret', '$endpoint')",
		'22023' ],
	[ 'a timeout while waiting',
		"SET statement_timeout = '1s';
		SELECT wfx_mt4_test_connection('1~hang', '$secret', '$endpoint')", '57014' ],
	[ 'a password that a constraint refuses',
		"ALTER TABLE trading_credentials ADD CHECK (length(account_password) > 99) NOT VALID;
		SELECT wfx_mt4_upload_credential('u', '$secret', '1')", '23514' ],
	[ 'a token that a constraint refuses',
		"ALTER TABLE mt4_integrations ADD CHECK (length(mt4_api_token) > 99) NOT VALID;
		SELECT wfx_mt4_set_token('$id', '$secret')", '23514' ],
	[ 'a row that a constraint refuses when a sync is requested',
		"ALTER TABLE mt4_integrations DROP CONSTRAINT mt4_integrations_mt4_api_token_check;
		UPDATE mt4_integrations SET mt4_api_token = '$secret';
		ALTER TABLE mt4_integrations ADD CONSTRAINT requests CHECK (next_sync_at > '2020-01-01') NOT VALID;
		SELECT wfx_mt4_request_sync()", '23514' ],
	[ 'a row that a constraint refuses when it is paused',
		"ALTER TABLE mt4_integrations DROP CONSTRAINT requests;
		ALTER TABLE mt4_integrations ADD CONSTRAINT active CHECK (is_active) NOT VALID;
		SELECT wfx_mt4_set_active('$id', false)", '23514' ],
	[ 'a token that does not fit',
		"DROP TRIGGER wfx_mt4_clear_token ON mt4_integrations;
		DROP TRIGGER wfx_mt4_wake ON mt4_integrations;
		ALTER TABLE mt4_integrations ALTER mt4_api_token TYPE varchar(8);
		SELECT wfx_mt4_set_token('$id', '$secret')", '22001' ]);

foreach my $failure (@failures)
{
	my ($name, $sql, $sqlstate) = @$failure;
	my $offset = -s $test->node->logfile;
	my $error = $test->error($sql);
	my $log = slurp_file($test->node->logfile, $offset);

	like($error, qr/$sqlstate/, $name);
	unlike($error, qr/\Q$secret\E/, "$name, for the client");
	unlike($log, qr/\Q$secret\E/, "$name, in the log");
}

$test->stop;
done_testing();
