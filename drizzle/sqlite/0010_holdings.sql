-- See drizzle/mysql/0011_holdings.sql.
ALTER TABLE `allocation` ADD `claim_call` text;--> statement-breakpoint
ALTER TABLE `allocation` ADD `claim_server` text;--> statement-breakpoint
ALTER TABLE `allocation` ADD `held_since` integer;--> statement-breakpoint
ALTER TABLE `allocation` ADD `held_by` text;--> statement-breakpoint
ALTER TABLE `allocation` ADD `held_instance` text;--> statement-breakpoint
ALTER TABLE `history` ADD `since` integer;--> statement-breakpoint
ALTER TABLE `history` ADD `claim_call` text;--> statement-breakpoint
ALTER TABLE `history` ADD `claim_server` text;--> statement-breakpoint
UPDATE `history` SET (`since`, `instance`, `holder`, `claim_call`, `claim_server`) =
	(SELECT `at`, `instance`, `holder`, `request`, `server` FROM `history` AS begun
		WHERE begun.`subnet` = `history`.`subnet` AND begun.`ip` = `history`.`ip`
		AND begun.`generation` < `history`.`generation` ORDER BY begun.`generation` DESC LIMIT 1)
	WHERE `move` <> 'claim' AND 'claim' = (SELECT begun.`move` FROM `history` AS begun
		WHERE begun.`subnet` = `history`.`subnet` AND begun.`ip` = `history`.`ip`
		AND begun.`generation` < `history`.`generation` ORDER BY begun.`generation` DESC LIMIT 1);--> statement-breakpoint
DELETE FROM `history` WHERE `move` = 'claim';--> statement-breakpoint
ALTER TABLE `history` DROP COLUMN `move`;
