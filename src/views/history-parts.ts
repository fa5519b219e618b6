/** What views show of the history. */
import * as v from 'valibot';
import { text, time } from './shapes.ts';

/** One time for which an address was held, as `ec2-ipam history` shows it. */
export const Tenure = v.object({
  since: v.nullable(time),
  until: v.nullable(time),
  isHeld: v.boolean(),
  eni: text,
  instance: text,
  container: text,
  request: text,
  server: text,
  endedBy: text,
  endRequest: text,
  endServer: text,
});

/** A call that was to change EC2. Without a result it had no answer. */
export const Ec2Call = v.object({
  id: v.string(),
  at: time,
  action: v.string(),
  eni: v.string(),
  addresses: v.array(v.string()),
  server: v.string(),
  tookMs: v.nullable(v.number()),
  result: text,
});
export type Ec2Call = v.InferOutput<typeof Ec2Call>;
