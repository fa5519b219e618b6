-- The history has one record for each holding, written with its end, in place of one for each move. What claims are in it
-- is put into the records of the ends. Of who holds an address now the row tells all but the call of the claim.
-- Every statement may run again: the last one tells whether the ones before it have run.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'held_instance') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `allocation`',
		' ADD COLUMN `claim_call` varchar(36),',
		' ADD COLUMN `claim_server` varchar(36),',
		' ADD COLUMN `held_since` bigint,',
		' ADD COLUMN `held_by` varchar(255),',
		' ADD COLUMN `held_instance` varchar(32)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'history' AND column_name = 'claim_server') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `history`',
		' ADD COLUMN `since` bigint,',
		' ADD COLUMN `claim_call` varchar(36),',
		' ADD COLUMN `claim_server` varchar(36)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'history' AND column_name = 'move') = 0,
	'DO 0',
	CONCAT(
		'UPDATE `history` AS ended JOIN (SELECT `subnet`, `ip`, `generation`, LAG(`move`) OVER one AS begun,',
		' LAG(`at`) OVER one AS since, LAG(`instance`) OVER one AS instance, LAG(`holder`) OVER one AS holder,',
		' LAG(`request`) OVER one AS request, LAG(`server`) OVER one AS server FROM `history`',
		' WINDOW one AS (PARTITION BY `subnet`, `ip` ORDER BY `generation`)) AS pair',
		' ON ended.`subnet` = pair.`subnet` AND ended.`ip` = pair.`ip` AND ended.`generation` = pair.`generation`',
		' SET ended.`since` = pair.since, ended.`instance` = pair.instance, ended.`holder` = pair.holder,',
		' ended.`claim_call` = pair.request, ended.`claim_server` = pair.server',
		' WHERE ended.`move` <> ''claim'' AND pair.begun = ''claim'''
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'history' AND column_name = 'move') = 0,
	'DO 0',
	CONCAT(
		'DELETE FROM `history` WHERE `move` = ''claim'''
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'history' AND column_name = 'move') = 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `history` DROP COLUMN `move`'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
