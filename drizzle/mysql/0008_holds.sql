-- One ALTER, so that it happened or did not. Reasons are in any script, whatever the charset of the ancestor's table.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'reserved_for') > 0,
	'DO 0',
	'ALTER TABLE `allocation` ADD COLUMN `reserved_for` varchar(255) CHARACTER SET utf8mb4'
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
