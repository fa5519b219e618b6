-- Each statement may run again: MySQL commits with every DDL, so a migration can stop between any two.
CREATE TABLE IF NOT EXISTS `eni` (
	`id` varchar(32) NOT NULL,
	`subnet` varchar(32) NOT NULL,
	`primary` varchar(45) NOT NULL,
	`instance` varchar(32),
	`attachment` varchar(64),
	`address_limit` int,
	`prefixes` int NOT NULL,
	`ours` tinyint(1) NOT NULL,
	`count_intent_at` bigint,
	`generation` int unsigned NOT NULL DEFAULT 0,
	`token` varchar(36),
	PRIMARY KEY(`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `fact` (
	`name` varchar(191) NOT NULL,
	`value` text NOT NULL,
	PRIMARY KEY(`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `server` (
	`id` varchar(191) NOT NULL,
	`started_at` bigint NOT NULL,
	`seen_at` bigint NOT NULL,
	`stopped_at` bigint,
	PRIMARY KEY(`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `subnet` (
	`id` varchar(32) NOT NULL,
	`vpc` varchar(32) NOT NULL,
	`cidr` varchar(49) NOT NULL,
	PRIMARY KEY(`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
--> statement-breakpoint
-- One ALTER, so that it happened or did not; `number` tells which. Rows that are there get a `number` of
-- zeros, which no address has: the mark of the ancestor's rows for the next statement.
SET @ec2_ipam_alter = IF(
	(SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'allocation' AND column_name = 'number') > 0,
	'DO 0',
	CONCAT(
		'ALTER TABLE `allocation`',
		' MODIFY COLUMN `ip` varchar(45) NOT NULL,',
		' MODIFY COLUMN `status` enum(''free'',''ready'',''allocated'',''occupied'',''reserved'',''assigning'',''unassigning'') NOT NULL DEFAULT ''free'',',
		' ADD COLUMN `number` binary(16) NOT NULL,',
		' ADD COLUMN `spread` int unsigned NOT NULL,',
		' ADD COLUMN `generation` int unsigned NOT NULL DEFAULT 0,',
		' ADD COLUMN `moved_at` bigint NOT NULL DEFAULT 0,',
		' ADD COLUMN `rested_since` bigint,',
		' ADD COLUMN `rested_from` varchar(32),',
		' ADD COLUMN `left_iface` varchar(32),',
		' ADD COLUMN `left_at` bigint,',
		' ADD COLUMN `missing_since` bigint,',
		' ADD COLUMN `absent_since` bigint,',
		' ADD COLUMN `refused_at` bigint,',
		' ADD COLUMN `holder` varchar(255),',
		' ADD COLUMN `token` varchar(36),',
		' DROP PRIMARY KEY,',
		' ADD PRIMARY KEY (`subnet`,`ip`),',
		IF((SELECT COUNT(*) FROM information_schema.statistics
			WHERE table_schema = DATABASE() AND table_name = 'allocation' AND index_name = 'free') > 0,
			' DROP KEY `free`,', ''),
		' ADD KEY `free` (`subnet`,`status`,`refused_at`,`rested_since`,`spread`,`number`),',
		' ADD KEY `ready` (`iface`,`status`,`rested_since`,`number`),',
		' ADD KEY `intent` (`status`,`moved_at`,`number`,`subnet`),',
		' ADD KEY `address` (`subnet`,`number`)'
	)
);
--> statement-breakpoint
PREPARE ec2_ipam_alter FROM @ec2_ipam_alter;
--> statement-breakpoint
EXECUTE ec2_ipam_alter;
--> statement-breakpoint
DEALLOCATE PREPARE ec2_ipam_alter;
--> statement-breakpoint
-- ENIs on which the ancestor had `ready` or `allocated` rows served its networks, and go on serving them: Docker asks
-- for no pool again. The rest of what is to be known of them is read from EC2 at their first use.
INSERT INTO `eni` (`id`, `subnet`, `primary`, `prefixes`, `ours`)
SELECT o.`iface`, MIN(o.`subnet`), '0.0.0.0', 0, 1
FROM `allocation` AS o
WHERE o.`number` = X'00000000000000000000000000000000'
	AND o.`status` IN ('ready','allocated')
	AND o.`iface` LIKE 'eni-%'
GROUP BY o.`iface`
ON DUPLICATE KEY UPDATE `ours` = 1;
--> statement-breakpoint
-- The ancestor's rows become ours, each once: only those whose `number` is still zeros.
--
-- It listed a subnet from its second address to the last but one, AWS's own included, and a subnet's ends
-- are multiples of 16; so AWS's first four addresses and the last follow from what it listed, and become
-- `reserved` whatever they were: it gave the gateway away.
--
-- It could not tell which address a container has (a released one was `ready` wherever it was, a ready one
-- could be in use on another host), so `ready` and `allocated` alike become `occupied`: on some ENI, given
-- by nobody, until a container's release or two reads of EC2 say otherwise.
--
-- Its `primary` flags stand on the wrong rows. One that it would not give must not be given now, so a
-- flagged row is `occupied` too, and keeps the flag until its ENI is read; nowhere else does a flag stay.
UPDATE `allocation` AS a
JOIN (
	-- DISTINCT keeps MySQL from merging this into the UPDATE, where it may not read the table that it writes.
	SELECT DISTINCT
		o.`subnet`,
		o.`ip`,
		CASE
			WHEN o.`status` = 'reserved' THEN 'reserved'
			WHEN INET_ATON(o.`ip`) < s.`first` + 4 OR INET_ATON(o.`ip`) = s.`last` THEN 'reserved'
			WHEN o.`status` IN ('ready','allocated') OR o.`primary` <> 0 THEN 'occupied'
			ELSE o.`status`
		END AS `status`
	FROM `allocation` AS o
	JOIN (
		SELECT
			`subnet`,
			MIN(INET_ATON(`ip`)) DIV 16 * 16 AS `first`,
			MAX(INET_ATON(`ip`)) DIV 16 * 16 + 15 AS `last`
		FROM `allocation`
		GROUP BY `subnet`
	) AS s ON s.`subnet` = o.`subnet`
	WHERE o.`number` = X'00000000000000000000000000000000'
) AS n ON n.`subnet` = a.`subnet` AND n.`ip` = a.`ip`
SET
	a.`number` = INET6_ATON(CONCAT('::ffff:', a.`ip`)),
	a.`spread` = CRC32(a.`ip`),
	a.`status` = n.`status`,
	a.`iface` = IF(n.`status` = 'occupied', a.`iface`, NULL),
	a.`primary` = IF(n.`status` = 'occupied', a.`primary`, 0),
	a.`moved_at` = UNIX_TIMESTAMP(a.`ts`) * 1000,
	a.`ts` = a.`ts`
WHERE a.`number` = X'00000000000000000000000000000000';
