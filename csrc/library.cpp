// Every operator's schema. What they do is in the rooms: see *operators.cpp in each.
#include <torch/csrc/stable/library.h>

#include "workspace.h"

STABLE_TORCH_LIBRARY(sslkernels, m) {
  m.def(
      "nt_xent_forward(Tensor z1, Tensor z2, Tensor scale, bool normalize, bool decoupled, "
      "str reduction, int precision) -> (Tensor loss, Tensor row_stat, Tensor inv_norm)");
  m.def(
      "nt_xent_backward(Tensor grad, Tensor row_stat, Tensor inv_norm, Tensor z1, Tensor z2, "
      "Tensor scale, bool normalize, bool decoupled, str reduction, int precision) "
      "-> (Tensor dz1, Tensor dz2, Tensor dscale)");
  m.def(
      "nt_xent_forward_backward(Tensor z1, Tensor z2, Tensor scale, bool normalize, "
      "bool decoupled, str reduction, int precision) "
      "-> (Tensor loss, Tensor dz1, Tensor dz2, Tensor dscale)");
  m.def(
      "supcon_forward_backward(Tensor z, Tensor labels, Tensor scale, bool normalize, "
      "str reduction, int precision) -> (Tensor loss, Tensor dz, Tensor dscale)");
  m.def(
      "logsumexp_forward(Tensor q, Tensor? k, Tensor scale, Tensor? bias, SymInt[] exclude, "
      "int precision) -> Tensor");
  m.def(
      "logsumexp_backward(Tensor grad, Tensor lse, Tensor q, Tensor? k, Tensor scale, "
      "Tensor? bias, SymInt[] exclude, bool with_dk, int precision) "
      "-> (Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)");
  m.def(
      "weighted_logsumexp_forward(Tensor q, Tensor? k, Tensor row_weight, Tensor scale, "
      "Tensor? bias, SymInt[] exclude, int precision) "
      "-> (Tensor value, Tensor lse, Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)");
  m.def(
      "logit_terms_forward(Tensor q, Tensor k, Tensor target, Tensor scale, Tensor? bias, "
      "Tensor? column_weight, float softcap, int precision) "
      "-> (Tensor lse, Tensor target_logit, Tensor weighted_sum, Tensor largest)");
  m.def(
      "logit_terms_backward(Tensor grad_lse, Tensor grad_target, Tensor grad_sum, Tensor lse, "
      "Tensor q, Tensor k, Tensor target, Tensor scale, Tensor? bias, Tensor? column_weight, "
      "float softcap, bool with_dk, int precision) "
      "-> (Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)");
  m.def("unit_rows_forward(Tensor x) -> (Tensor z, Tensor inv_norm)");
  m.def("unit_rows_backward(Tensor grad, Tensor x, Tensor inv_norm) -> Tensor");
  m.def(
      "fixed_keys_forward(Tensor q, Tensor k, Tensor scale, Tensor? bias, int precision) "
      "-> (Tensor lse, Tensor mean_key)");
  m.def(
      "pair_terms_forward(Tensor q, Tensor k, Tensor scale, int first, int precision) "
      "-> (Tensor row_lse, Tensor column_lse, Tensor pair_logit)");
  m.def(
      "pair_terms_backward(Tensor grad_row, Tensor grad_column, Tensor grad_pair, Tensor row_lse, "
      "Tensor column_lse, Tensor q, Tensor k, Tensor scale, int first, int precision) "
      "-> (Tensor dq, Tensor dk, Tensor dscale)");
  m.def(
      "sigmoid_loss_forward(Tensor q, Tensor k, Tensor scale, Tensor bias, int first, "
      "str reduction, int precision) -> Tensor");
  m.def(
      "sigmoid_loss_forward_backward(Tensor q, Tensor k, Tensor scale, Tensor bias, int first, "
      "str reduction, int precision) -> (Tensor value, Tensor dq, Tensor dk, Tensor dscale, Tensor "
      "dbias)");
  m.def(
      "mask_tokens(Tensor input_ids, Tensor sequence_ids, Tensor? attention_mask, "
      "Tensor? word_ids, int mask_token_id, int vocab_size, int[] special_ids, SymInt seed, "
      "str strategy, int select_below, int replace_below, int random_below, int[] longer_from, "
      "int ignore_index) -> (Tensor masked_ids, Tensor labels)");
  m.def(
      "augment_draws(Tensor sample_ids, float[] numbers, SymInt seed, SymInt epoch, SymInt height, "
      "SymInt width) -> Tensor");
  m.def(
      "augment_forward(Tensor images, Tensor draws, int[] size, int blur_kernel, float[] mean, "
      "float[] std, float erase_value, int stages, ScalarType dtype, bool channels_last) -> "
      "Tensor");
  m.def(
      "augment_forward_out(Tensor images, Tensor draws, int[] size, int blur_kernel, float[] mean, "
      "float[] std, float erase_value, int stages, Tensor(a!) out) -> ()");
  m.def(
      "augment_backward(Tensor grad, Tensor images, Tensor draws, int[] size, int blur_kernel, "
      "float[] mean, float[] std, float erase_value, int stages) -> Tensor");
  m.def("release_workspaces() -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CompositeExplicitAutograd, m) {
  m.impl("release_workspaces", TORCH_BOX(&sslk::release_workspaces));
}
