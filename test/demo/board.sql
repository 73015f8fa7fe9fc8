--
-- The leaderboard, as the demonstration prints it.
--
SELECT rank, trader_name AS trader,
       lpad(to_char(current_balance, 'FM999,990.00'), 9) AS balance,
       lpad(to_char(equity, 'FM999,990.00'), 9) AS equity,
       lpad(to_char(profit_percentage, 'FMSG990.00') || ' %', 9) AS profit,
       freshness
  FROM wfx_mt4_leaderboard();
