/** WebAssembly's page size, and types that also work for programs compiled without TypeScript's DOM library. */

/** Size of a page of linear memory, in bytes. */
export const WASM_PAGE = 65536;

/** The type of `WebAssembly[Name]` if TypeScript knows it, otherwise `Other`. */
type Known<Name extends string, Other> = typeof globalThis extends {
  readonly WebAssembly: Readonly<Record<Name, { readonly prototype: infer Type }>>;
}
  ? Type
  : Other;

export type Memory = Known<
  "Memory",
  {
    readonly buffer: ArrayBuffer;
    /** Adds pages of 64 KiB. Returns the previous number of pages. */
    grow(pages: number): number;
  }
>;
export type Module = Known<"Module", object>;
