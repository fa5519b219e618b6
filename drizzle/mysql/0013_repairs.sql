-- A held address notes when it was repaired last, while a repair without an answer may still be applied.
-- Every statement may run again.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'repair_unsure_at') > 0,
	'DO 0',
	'ALTER TABLE `allocation` ADD COLUMN `repair_unsure_at` bigint'
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
