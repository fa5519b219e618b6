-- Indexes that a claim or a release does not touch, in one ALTER that happened or did not; `intent_at` tells which.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'intent_at') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `allocation`',
		' ADD COLUMN `free_refused_at` bigint GENERATED ALWAYS AS (IF(`status` = ''free'',COALESCE(`refused_at`,0),NULL)) STORED,',
		' ADD COLUMN `free_rested_since` bigint GENERATED ALWAYS AS (IF(`status` = ''free'',COALESCE(`rested_since`,0),NULL)) STORED,',
		' ADD COLUMN `intent_at` bigint GENERATED ALWAYS AS (IF(`status` IN (''assigning'',''unassigning''),`moved_at`,NULL)) STORED,',
		' DROP KEY `ready`,',
		' DROP KEY `free`,',
		' DROP KEY `intent`,',
		' ADD KEY `iface` (`iface`,`number`),',
		' ADD KEY `free` (`subnet`,`free_refused_at`,`free_rested_since`,`spread`,`number`),',
		' ADD KEY `intent` (`intent_at`,`number`,`subnet`)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'eni' AND column_name = 'released_at') > 0,
	'DO 0',
	'ALTER TABLE `eni` ADD COLUMN `released_at` bigint'
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
