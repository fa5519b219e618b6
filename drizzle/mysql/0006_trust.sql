CREATE TABLE IF NOT EXISTS `host` (
	`instance` varchar(32) NOT NULL,
	`enrolled_at` bigint,
	`expires_at` bigint,
	`seen_at` bigint,
	`revoked_at` bigint,
	`allowed_at` bigint,
	CONSTRAINT `host_instance` PRIMARY KEY(`instance`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `nonce` (
	`value` varchar(64) NOT NULL,
	`until` bigint NOT NULL,
	`token` varchar(36) NOT NULL,
	CONSTRAINT `nonce_value` PRIMARY KEY(`value`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `sighting` (
	`subnet` varchar(32) NOT NULL,
	`ip` varchar(45) NOT NULL,
	`iface` varchar(32) NOT NULL,
	`generation` int unsigned NOT NULL,
	`boot` varchar(64) NOT NULL,
	`engine` varchar(191) NOT NULL,
	`attachment` varchar(64) NOT NULL,
	`unseen_since` bigint,
	`unseen_readings` int NOT NULL DEFAULT 0,
	`used_since` bigint,
	`used_readings` int NOT NULL DEFAULT 0,
	`seen_at` bigint,
	`container` varchar(64),
	`name` varchar(255),
	`image` varchar(255),
	`finding` varchar(1024),
	CONSTRAINT `sighting_subnet_ip_pk` PRIMARY KEY(`subnet`,`ip`),
	INDEX `sighting_iface` (`iface`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
-- Columns that one statement compares with each other have the same collation, whatever the server's default was when
-- their tables were made: names of tenants here and in `eni`; `id` of `eni` and `iface` of `allocation` below.
CREATE TABLE IF NOT EXISTS `tenant` (
	`name` varchar(64) COLLATE utf8mb4_bin NOT NULL,
	`quota` int NOT NULL,
	`profile` varchar(128),
	`generation` int unsigned NOT NULL DEFAULT 0,
	`token` varchar(36),
	CONSTRAINT `tenant_name` PRIMARY KEY(`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
-- One ALTER a table, so that it happened or did not; its last column tells which.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'release_id') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `allocation`',
		' ADD COLUMN `instance` varchar(32),',
		' ADD COLUMN `request_id` varchar(36),',
		' ADD COLUMN `release_id` varchar(36),',
		' ADD UNIQUE INDEX `request` (`request_id`)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'eni' AND column_name = 'mac') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `eni`',
		' MODIFY COLUMN `id` varchar(32) ',
		(SELECT CONCAT('CHARACTER SET ', character_set_name, ' COLLATE ', collation_name)
			FROM information_schema.columns
			WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'iface'),
		' NOT NULL,',
		' ADD COLUMN `tenant` varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,',
		' ADD COLUMN `mac` varchar(17),',
		' ADD INDEX `eni_tenant` (`tenant`)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
