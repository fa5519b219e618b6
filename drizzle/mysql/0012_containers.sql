-- The id of a container is noted with its holding, and the version of a server with its heartbeat.
-- Every statement may run again.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'held_container') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `allocation`',
		' ADD COLUMN `container_id` varchar(64),',
		' ADD COLUMN `container_since` bigint,',
		' ADD COLUMN `held_container` varchar(64)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'history' AND column_name = 'container_id') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `history`',
		' ADD COLUMN `container_id` varchar(64)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'server' AND column_name = 'version') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `server`',
		' ADD COLUMN `version` varchar(64)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
