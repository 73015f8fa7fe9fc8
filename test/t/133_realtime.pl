# The board, live: wfx_mt4_enable_realtime() and a subscriber that sees each change once
# and in order; notifications name only whose numbers changed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WfxTest;

my $test = WfxTest->start(init => [ allows_streaming => 'logical' ]);
my $node = $test->node;

# What a call says, on one line.
sub enable
{
	my ($arguments, $before) = @_;
	my (undef, undef, $said) = $node->psql('postgres', ($before // '') . "\\set VERBOSITY verbose\nSELECT wfx_mt4_enable_realtime($arguments)");
	return $said =~ s/^psql:<stdin>:\d+: //mgr;
}

subtest 'what it checks' => sub {
	like(enable(''), qr/ERROR:  42704: publication "supabase_realtime" does not exist.*HINT:  Run "CREATE PUBLICATION supabase_realtime"/s, 'no publication');
	$test->sql('CREATE PUBLICATION supabase_realtime');
	$test->sql('ALTER TABLE performance_data REPLICA IDENTITY NOTHING');
	like(enable(''), qr/ERROR:  55000: .*no replica identity.*REPLICA IDENTITY DEFAULT/s, 'no replica identity');
	$test->sql('ALTER TABLE performance_data REPLICA IDENTITY DEFAULT; ALTER TABLE performance_data DROP CONSTRAINT performance_data_pkey');
	like(enable(''), qr/ERROR:  55000: .*no primary key.*ADD PRIMARY KEY/s, 'no primary key');
	$test->sql('ALTER TABLE performance_data ADD PRIMARY KEY (id)');
	$test->sql('ALTER PUBLICATION supabase_realtime ADD TABLE performance_data (trader_id, current_balance)');
	like(enable(''), qr/ERROR:  55000: .*column list.*DROP TABLE/s, 'a column list without the key');
	$test->sql('CREATE PUBLICATION another');
	like(enable(q{'another'}), qr/ERROR:  55000: .*column list in publication "supabase_realtime".*ALTER PUBLICATION supabase_realtime DROP TABLE/s,
		'or in another publication, which is as bad');
	$test->sql(q{ALTER PUBLICATION supabase_realtime SET (publish = 'insert')});
	like(enable(q{'another'}), qr/NOTICE: .*was added/, 'but not where that publishes no updates');
	$test->sql(q{DROP PUBLICATION another; ALTER PUBLICATION supabase_realtime SET (publish = 'insert, update, delete, truncate')});
	$test->sql('ALTER PUBLICATION supabase_realtime SET TABLE performance_data (id, trader_id, current_balance)');
	like(enable(''), qr/NOTICE: .*publishes table \S*performance_data already/, 'with the key');
	$test->sql('ALTER PUBLICATION supabase_realtime DROP TABLE performance_data');
	$test->sql('ALTER PUBLICATION supabase_realtime ADD TABLE performance_data WHERE (profit_percentage > 0)');
	like(enable(''), qr/ERROR:  55000: .*row filter in publication "supabase_realtime".*DROP TABLE/s, 'a row filter on another column than the key');
	$test->sql('ALTER TABLE performance_data REPLICA IDENTITY FULL');
	like(enable(''), qr/NOTICE: .*publishes table \S*performance_data already/, 'but not where all columns identify the row');
	$test->sql(q{ALTER TABLE performance_data REPLICA IDENTITY DEFAULT;
		ALTER PUBLICATION supabase_realtime SET TABLE performance_data (id, trader_id) WHERE (id IS NOT NULL)});
	like(enable(''), qr/NOTICE: .*publishes table \S*performance_data already/, 'nor on the key');
	$test->sql('UPDATE performance_data SET currency = NULL; ALTER PUBLICATION supabase_realtime DROP TABLE performance_data');
	$test->sql('ALTER TABLE performance_data DROP CONSTRAINT performance_data_pkey, ADD PRIMARY KEY (id) DEFERRABLE');
	like(enable(''), qr/ERROR:  55000: .*primary key is deferrable.*REPLICA IDENTITY FULL/s, 'a primary key that is checked late');
	$test->sql('ALTER TABLE performance_data REPLICA IDENTITY FULL, DROP CONSTRAINT performance_data_pkey, ADD PRIMARY KEY (id);
		ALTER TABLE performance_data REPLICA IDENTITY DEFAULT');
	like(enable('NULL'), qr/ERROR:  22004: publication must not be null/, 'no name');
	is($test->sql('SELECT count(*) FROM pg_publication_tables'), 0, 'nothing was added so far');

	like(enable(''), qr/NOTICE: .*table \S*performance_data was added to publication "supabase_realtime"/, 'it is added');
	like(enable(''), qr/NOTICE: .*publishes table \S*performance_data already/, 'once');
	is($test->sql(q{SELECT string_agg(tablename, ' ') FROM pg_publication_tables}), 'performance_data', 'alone');
	unlike(enable(''), qr/WARNING/, 'of which there is nothing to say');
	$test->sql(q{CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'delete')});
	my $said = enable(q{'everything'});
	like($said, qr/NOTICE: .*publishes all tables/, 'of all tables');
	like($said, qr/WARNING: .*"everything" sends tokens or passwords.*HINT: .*wfx_mt4_security_report/s, 'with the secrets in them');
	like($said, qr/WARNING: .*does not publish inserts and updates/, 'of deletions only');
	$test->sql('DROP PUBLICATION everything; CREATE PUBLICATION by_schema FOR TABLES IN SCHEMA public');
	$said = enable(q{'by_schema'});
	like($said, qr/NOTICE: .*publishes table \S*performance_data already/, 'of its schema');
	like($said, qr/WARNING: .*"by_schema" sends tokens or passwords/, 'likewise');
	$test->sql('DROP PUBLICATION by_schema');
};

subtest 'who may' => sub {
	$test->sql(q{CREATE ROLE owner; CREATE ROLE other; GRANT EXECUTE ON FUNCTION wfx_mt4_enable_realtime TO owner, other;
		GRANT CREATE ON DATABASE postgres TO owner; CREATE PUBLICATION foreign_one;
		ALTER TABLE performance_data OWNER TO owner; SET ROLE owner; CREATE PUBLICATION own});
	like(enable(q{'own'}, 'SET ROLE owner; '), qr/was added/, 'the owner of both');
	like(enable(q{'foreign_one'}, 'SET ROLE owner; '), qr/42501: must be owner of publication/, 'not of the table alone');
	like(enable(q{'own'}, 'SET ROLE other; '), qr/42501: permission denied for table/, 'nor anybody else');
	$test->sql('ALTER TABLE performance_data OWNER TO CURRENT_USER; DROP PUBLICATION foreign_one, own');
};

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->start;
# the same table, and a diary of what comes
my $table = PostgreSQL::Test::Utils::tempdir() . '/table.sql';
command_ok([ 'pg_dump', '--schema-only', '--no-owner', '--table=performance_data', '--section=pre-data',
		'--file', $table, '--dbname', $node->connstr('postgres') ], 'the table is copied');
$subscriber->command_ok([ 'psql', '--no-psqlrc', '--quiet', '--file', $table, '--dbname', $subscriber->connstr('postgres') ], 'and made');
$subscriber->safe_psql('postgres', q{
	ALTER TABLE performance_data ADD PRIMARY KEY (id), DISABLE ROW LEVEL SECURITY;
	CREATE TABLE diary (n bigserial, what text, trader_id uuid, balance numeric);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.diary (what, trader_id, balance) VALUES (TG_OP, NEW.trader_id, NEW.current_balance);
		RETURN NULL;
	END $$;
	CREATE TRIGGER note AFTER INSERT OR UPDATE ON performance_data FOR EACH ROW EXECUTE FUNCTION note();
	ALTER TABLE performance_data ENABLE ALWAYS TRIGGER note});
$subscriber->safe_psql('postgres', 
	'CREATE SUBSCRIPTION s CONNECTION ' . WfxTest::literal($node->connstr('postgres')) . ' PUBLICATION supabase_realtime');
$subscriber->wait_for_subscription_sync;

my @ids = map { $test->link($_) } qw(1 2 3);
my @traders = map { $test->trader($_) } @ids;
my $listener = $test->session;
$listener->query_safe('LISTEN wfx_mt4');

# Lets an account have a balance from now on.
sub set_balance
{
	my ($account, $balance) = @_;
	$test->provider->control('PUT', "answer/$account", { body => qq({"balance": $balance}) });
	return;
}

# The traders that were named since the last call, sorted.
sub named
{
	my $printed = $listener->query('SELECT 1');
	return [ sort map { @{ JSON::PP->new->decode($_)->{traders} } } $printed =~ /"wfx_mt4" with payload "(.*?)" received/g ];
}

foreach my $round (1 .. 5)
{
	set_balance($_, 1000 * $_ + $round) foreach 1 .. 3;
	# the second has the same numbers in two rounds
	set_balance(2, 2001) if $round == 2;
	$test->sync_all;
	my @changed = $round == 2 ? @traders[ 0, 2 ] : @traders;
	is_deeply(named(), [ sort @changed ], "round $round names whose numbers changed, once");
}
$test->sync_all;
is_deeply(named(), [], 'nobody where nothing changed');

$node->wait_for_catchup('s');
foreach my $n (0 .. 2)
{
	my @balances = map { my $round = $_; 1000 * ($n + 1) + ($n == 1 && $round == 2 ? 1 : $round) } 1 .. 5, 5;
	is( $subscriber->safe_psql('postgres',
			"SELECT string_agg(what || ' ' || balance, ', ' ORDER BY n) FROM diary WHERE trader_id = '$traders[$n]'"),
		join(', ', map { ($_ == 0 ? 'INSERT' : 'UPDATE') . " $balances[$_]" } 0 .. $#balances),
		'the subscriber sees each change of account ' . ($n + 1) . ' once and in order');
}

$listener->quit;
$subscriber->stop;
$test->stop;
done_testing();
