-- The ancestor's table, as it made it, so that a database of its and an empty one look the same from here on.
CREATE TABLE IF NOT EXISTS `allocation` (
	`ip` varchar(32) NOT NULL,
	`subnet` varchar(32) NOT NULL,
	`status` enum('free','ready','allocated','occupied','reserved') NOT NULL DEFAULT 'free',
	`iface` varchar(32) DEFAULT NULL,
	`primary` tinyint(1) NOT NULL,
	`ts` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
	PRIMARY KEY (`ip`),
	KEY `free` (`subnet`,`status`) USING BTREE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
