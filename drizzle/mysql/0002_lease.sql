CREATE TABLE IF NOT EXISTS `lease` (
	`name` varchar(191) NOT NULL,
	`server` varchar(191) NOT NULL,
	`until` bigint NOT NULL,
	CONSTRAINT `lease_name` PRIMARY KEY(`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
