ALTER TABLE `allocation` ADD `left_unsure` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `allocation` ADD `placed_at` integer;--> statement-breakpoint
ALTER TABLE `eni` ADD `attachment_seen_at` integer;--> statement-breakpoint
ALTER TABLE `eni` ADD `earlier_attachment` text;--> statement-breakpoint
ALTER TABLE `eni` ADD `claims_end_before` integer;