-- One ALTER a table, so that it happened or did not; its last column tells which.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'placed_at') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `allocation`',
		' ADD COLUMN `left_unsure` tinyint(1) NOT NULL DEFAULT 0,',
		' ADD COLUMN `placed_at` bigint'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'eni' AND column_name = 'claims_end_before') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `eni`',
		' ADD COLUMN `attachment_seen_at` bigint,',
		' ADD COLUMN `earlier_attachment` varchar(64),',
		' ADD COLUMN `claims_end_before` bigint'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
