# wfx_mt4_expose(): what PostgREST serves of the extension, who may call it, and whose
# functions are left alone.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use Supabase;
use Test::More;

my $stack = Supabase->start;
my $id = $stack->link('1~balance-1100');

my $answer = $stack->rpc('organiser', 'wfx_mt4_sync', { integration_id => $id });
is($answer->{status}, 200, 'a sync over REST') or diag $answer->{content};
is($answer->{json}{account}{balance}, 1100, 'answers with the account');
$stack->stop;
done_testing();
