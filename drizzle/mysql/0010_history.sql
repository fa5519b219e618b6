CREATE TABLE IF NOT EXISTS `ec2_call` (
	`id` varchar(36) NOT NULL,
	`at` bigint NOT NULL,
	`action` varchar(16) NOT NULL,
	`iface` varchar(32) NOT NULL,
	`ips` text NOT NULL,
	`server` varchar(36) NOT NULL,
	`ended_at` bigint,
	`result` varchar(500),
	CONSTRAINT `ec2_call_id` PRIMARY KEY(`id`),
	INDEX `ec2_call_at` (`at`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `history` (
	`subnet` varchar(32) NOT NULL,
	`ip` varchar(45) NOT NULL,
	`generation` int unsigned NOT NULL,
	`at` bigint NOT NULL,
	`move` varchar(16) NOT NULL,
	`iface` varchar(32),
	`instance` varchar(32),
	`holder` varchar(255),
	`cause` varchar(16) NOT NULL,
	`request` varchar(36),
	`server` varchar(36) NOT NULL,
	CONSTRAINT `history_subnet_ip_generation_pk` PRIMARY KEY(`subnet`,`ip`,`generation`),
	INDEX `history_at` (`at`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
