CREATE TABLE IF NOT EXISTS `bucket` (
	`name` varchar(191) NOT NULL,
	`empty_at` bigint NOT NULL,
	`halvings` int NOT NULL,
	`throttled_at` bigint NOT NULL,
	CONSTRAINT `bucket_name` PRIMARY KEY(`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
