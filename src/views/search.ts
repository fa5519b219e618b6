/** The search: by address, ENI, instance or container. */
import * as v from 'valibot';
import { text } from './shapes.ts';

const FOUND_KINDS = ['address', 'container', 'eni', 'instance', 'subnet'] as const;

const Found = v.object({
  kind: v.picklist(FOUND_KINDS),
  /** The container's name, or the id of what was found. */
  name: v.string(),
  subnet: text,
  address: text,
  eni: text,
  instance: text,
});
export type Found = v.InferOutput<typeof Found>;

export const SearchView = v.object({
  query: v.string(),
  found: v.array(Found),
  /** There are more than are listed. */
  hasMore: v.boolean(),
});
export type SearchView = v.InferOutput<typeof SearchView>;
