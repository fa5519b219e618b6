-- One ALTER, so that it happened or did not; its last column tells which. Rows that are held keep null: what they say of
-- their instance and request goes on counting.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'repeated_at') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `allocation`',
		' ADD COLUMN `claimed_at` bigint,',
		' ADD COLUMN `repeated_at` bigint'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
