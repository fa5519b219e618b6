CREATE TABLE IF NOT EXISTS `witness` (
	`instance` varchar(32) NOT NULL,
	`ticket` varchar(36) NOT NULL,
	`begun_at` bigint NOT NULL,
	`read_at` bigint,
	`incomplete` varchar(500),
	`engine` varchar(191),
	`engine_since` bigint,
	CONSTRAINT `witness_instance` PRIMARY KEY(`instance`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.statistics
		WHERE table_schema = DATABASE() AND table_name = 'sighting' AND index_name = 'sighting_used') > 0,
	'DO 0',
	'ALTER TABLE `sighting` ADD INDEX `sighting_used` (`used_since`)'
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
